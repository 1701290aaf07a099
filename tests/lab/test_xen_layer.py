# SPDX-License-Identifier: Apache-2.0
"""What the Xen laboratory puts into its machines."""

import tomllib
from pathlib import Path

import pytest

from ivc.lab.hosts import LabError
from ivc.lab.xen import layer
from ivc.lab.xen.layer import DISTRIBUTIONS

ROOT = Path(__file__).parent.parent.parent


def test_machines_have_everything_ivc_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {pin.partition("==")[0] for pin in project["dependencies"]}
    assert needed <= set(DISTRIBUTIONS)


def test_a_stale_environment_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer, "DISTRIBUTIONS", ("no-such-distribution",))
    with pytest.raises(LabError, match=r"no-such-distribution; run: python3 build\.py"):
        layer._wheels()
