# SPDX-License-Identifier: Apache-2.0
"""For tests of somebody's own nodes: pytest's fixture `ivc_lab` and marker `ivc` (docs/testing.md).

pytest loads this in every run: what it needs to do its work is imported where a test asks for it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from ivc.lab.nodes import NodeLab

WAYS: Final = ("native", "direct", "relay")

_MARKER: Final = (
    "ivc(config, mapping=None, ways=('native', 'direct', 'relay')): files of the nodes that the "
    "fixture ivc_lab makes hosts for, relative to the test's file, and how programs are to talk"
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test runs once for each way."""
    if "ivc_way" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("ivc")
        ways = marker.kwargs.get("ways", WAYS) if marker is not None else WAYS
        metafunc.parametrize("ivc_way", ways)


@pytest.fixture
def ivc_lab(request: pytest.FixtureRequest, ivc_way: str) -> Iterator[NodeLab]:
    """Hosts of the nodes of the marker's files, and a controller: see `ivc.lab.nodes.NodeLab`."""
    from ivc.lab.hosts import Mode, available_mode, why_no_namespaces
    from ivc.lab.nodes import NodeLab, Way

    mode = available_mode()
    if mode is not Mode.ROOT:
        why = why_no_namespaces() if mode is Mode.LOOPBACK else "run pytest as root"
        pytest.skip(f"ivc_lab makes network namespaces: {why}")
    with NodeLab(*_files(request), Way(ivc_way)) as lab:
        yield lab


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What programs and controller have said is told with a test that failed."""
    report = yield
    lab = getattr(item, "funcargs", {}).get("ivc_lab")
    if call.when == "call" and report.failed and lab is not None:
        report.sections.append(("programs and controller of ivc_lab", lab.words()))
    return report


def _files(request: pytest.FixtureRequest) -> tuple[list[Path], Path | None]:
    marker = request.node.get_closest_marker("ivc")
    if marker is None or not marker.kwargs.get("config"):
        raise pytest.UsageError(
            f"{request.node.nodeid}: found no @pytest.mark.ivc with files, as ivc_lab needs; add "
            'one such as @pytest.mark.ivc(config=["hmi.json", "adas.json"], mapping="mapping.toml")'
        )
    folder, mapping = request.path.parent, marker.kwargs.get("mapping")
    configs = [folder / name for name in marker.kwargs["config"]]
    return configs, folder / mapping if mapping is not None else None
