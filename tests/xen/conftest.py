# SPDX-License-Identifier: Apache-2.0
"""Two boots of Xen for all tests here, and which of them the default run takes.

Those marked `full` need boots of their own or many guests' lives: they are left out
(pytest says "deselected") unless asked for, by `python3 build.py full` or `pytest -m xen`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ivc.lab.xen.lab import GUESTS, DomU, XenLab

HERE = Path(__file__).parent
OTHER = "other_lab"
TEST_SECONDS = 900  # the first one boots, on a cold cache it makes the images too


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "xen: needs the Xen laboratory")


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.xen)
        item.add_marker(pytest.mark.timeout(TEST_SECONDS))
    long = [item for item in ours if item.get_closest_marker("full")]
    if not os.environ.get("IVC_FULL") and not config.option.markexpr:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
    items.sort(key=_when)


def _when(item: pytest.Item) -> int:
    """PVH guests come last in their laboratory, for they stay; then the other laboratory."""
    names = getattr(item, "fixturenames", ())
    return 2 if OTHER in names else int("pvh" in names)


@pytest.fixture(scope="session")
def boot() -> Iterator[Callable[..., XenLab]]:
    """Boots a laboratory, arguments as of `XenLab`, and ends the one before: there is one at a
    time, and the tests of each come together.
    """
    running: dict[tuple[object, ...], XenLab] = {}
    with ExitStack() as stack:

        def boot(*kind: object) -> XenLab:
            if kind not in running:
                stack.close()
                running.clear()
                running[kind] = stack.enter_context(XenLab(*kind))
            return running[kind]

        yield boot


@pytest.fixture(scope="module")
def lab(boot: Callable[..., XenLab]) -> XenLab:
    """What `build.py xen` boots: a script starts dom0, the guests are paravirtual."""
    return boot()


@pytest.fixture(scope="module")
def other_lab(boot: Callable[..., XenLab]) -> XenLab:
    """All that is different there: systemd starts dom0 as Debian does, and the guests are PVH."""
    return boot(True, 'type = "pvh"\n')


@pytest.fixture(params=list(GUESTS))
def guest(lab: XenLab, request: pytest.FixtureRequest) -> DomU:
    """Each of the guests."""
    return lab.domU(request.param)


@pytest.fixture(autouse=True)
def consoles_on_failure(request: pytest.FixtureRequest) -> Iterator[None]:
    """A failed test shows what the machines have said."""
    failed_before = request.session.testsfailed
    yield
    for name in {"lab", OTHER} & set(request.fixturenames):
        if request.session.testsfailed > failed_before:
            print(request.getfixturevalue(name).consoles())
