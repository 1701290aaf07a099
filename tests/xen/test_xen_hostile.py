# SPDX-License-Identifier: Apache-2.0
"""A guest that does not keep to the rules: it is thrown out, and nobody else notices."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from traffic import controlled, nothing_lost, on_rings

import build
from ivc.lab.control import CLIENT_HOST, SERVER_HOST
from ivc.lab.xen.lab import XenLab

__all__ = ["controlled"]  # a fixture

PROGRAM = "/tmp/hostile"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("hostile") / "hostile"
    source = Path(__file__).with_name("hostile.c")
    core = build.ROOT / "core"
    subprocess.run(
        [*build.COMPILE, f"-I{core}", "-o", target, source, *build.CORE_SOURCES], check=True
    )
    return target


@pytest.mark.parametrize(
    ("what", "end"), [("rubbish", "thrown out"), ("storm", "kept"), ("claim", "thrown out")]
)
def test_a_hostile_program_hurts_nobody_else(
    controlled: XenLab, program: Path, what: str, end: str
) -> None:
    victim, attacker = controlled.domU(SERVER_HOST), controlled.domU(CLIENT_HOST)
    attacker.put(program, PROGRAM, mode=0o755)
    with on_rings(controlled) as client:
        done = attacker.run([PROGRAM, what, *([victim.address] if what == "claim" else [])], 120)
        nothing_lost(controlled, client)
    assert done.stdout.strip() == end
