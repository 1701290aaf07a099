# SPDX-License-Identifier: Apache-2.0
"""One booted Xen for all tests here, and which of them the default run takes.

Those marked `full` need boots of their own or many guests' lives: they are left out
(pytest says "deselected") unless asked for, by `python3 build.py full` or `pytest -m xen`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ivc.lab.xen.lab import GUESTS, DomU, XenLab

HERE = Path(__file__).parent
TEST_SECONDS = 900  # the first one boots, on a cold cache it makes the images too


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "xen: needs the Xen laboratory")
    config.addinivalue_line("markers", "full: too long for the default run")


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


@pytest.fixture(scope="session")
def lab() -> Iterator[XenLab]:
    with XenLab() as booted:
        yield booted


@pytest.fixture(params=list(GUESTS))
def guest(lab: XenLab, request: pytest.FixtureRequest) -> DomU:
    """Each of the guests."""
    return lab.domU(request.param)


@pytest.fixture(autouse=True)
def consoles_on_failure(request: pytest.FixtureRequest) -> Iterator[None]:
    """A failed test shows what the machines have said."""
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed > failed_before and "lab" in request.fixturenames:
        print(request.getfixturevalue("lab").consoles())
