# SPDX-License-Identifier: Apache-2.0
"""The traffic program, and a field to let it loose on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from endurance_field import FULL, Field, FieldMaker, open_field

import build

HERE = Path(__file__).parent
FULL_SECONDS = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A thousand of something takes longer than a test may take otherwise."""
    for item in items:
        if FULL and HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(FULL_SECONDS))


@pytest.fixture(scope="session")
def traffic_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """traffic.c, compiled."""
    program = tmp_path_factory.mktemp("endurance") / "traffic"
    source = Path(__file__).parent / "traffic.c"
    command = [*build.COMPILE, str(source), "-o", str(program), "-lpthread"]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
    return program


@pytest.fixture
def field_maker(tmp_path: Path, traffic_program: Path) -> FieldMaker:
    """Opens a field; options as of `open_field`."""
    return partial(open_field, tmp_path / "field", traffic_program)


@pytest.fixture
def field(field_maker: FieldMaker) -> Iterator[Field]:
    """Two hosts, direct flows."""
    with field_maker() as made:
        yield made
