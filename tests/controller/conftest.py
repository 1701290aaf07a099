# SPDX-License-Identifier: Apache-2.0
"""Controllers for the tests of this folder."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from controller_lab import Lab, NumberedHosts, Starter, serve, write_network

from ivc.controller.flows import Quota
from ivc.controller.service import Service, Settings
from ivc.network import Path as FlowPath


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Start a controller; `path` and `quota` as on the command line."""
    labs: list[Lab] = []

    def starter(
        path: FlowPath = FlowPath.DIRECT,
        quota: Quota | None = None,
        nodes: dict[str, str] | None = None,
        mapping: str = "",
    ) -> Lab:
        known = nodes or {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3"}
        files = write_network(tmp_path, known, mapping)
        platform = NumberedHosts()
        settings = Settings(
            files, tmp_path / "mapping.toml", tmp_path / "run", path, quota or Quota()
        )
        service = Service(settings, platform)
        thread = threading.Thread(target=serve, args=(service,), daemon=True)
        lab = Lab(tmp_path / "run", platform, service, thread)
        thread.start()
        labs.append(lab)
        return lab

    yield starter
    for lab in labs:
        lab.stop()
