# SPDX-License-Identifier: Apache-2.0
"""The ring between two domUs on real Xen: grants, event channels, XenStore, no dom0 in between."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import build
from ivc.lab.xen.lab import DomU, XenLab

ROOT = Path(__file__).parents[2]
PROGRAM = "/tmp/ring_pingpong"
COUNT = 400


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("ring") / "ring_pingpong"
    source = Path(__file__).parent / "ring_pingpong.c"
    command = [*build.COMPILE, f"-I{ROOT / 'core'}", "-o", target, source, *build.CORE_SOURCES]
    subprocess.run(command, check=True)
    return target


def ping_pong(lab: XenLab, program: Path, waiting: str) -> dict[str, Any]:
    server, client = lab.domU("adas"), lab.domU("hmi")
    for guest in (server, client):
        guest.put(program, PROGRAM, mode=0o755)

    def command(role: str, own: DomU, peer: DomU) -> list[str]:
        return [PROGRAM, role, str(own.domid()), str(peer.domid()), str(COUNT), waiting]

    with server.popen(command("server", server, client)) as serving:
        done = client.run(command("client", client, server), timeout=120)
        serving.wait(30)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("waiting", ["block", "spin"])
def test_every_message_comes_back_whole(lab: XenLab, program: Path, waiting: str) -> None:
    result = ping_pong(lab, program, waiting)
    print(waiting, result)
    assert result["received"] == COUNT


def test_spinning_pays(lab: XenLab, program: Path) -> None:
    blocked = ping_pong(lab, program, "block")["rtt_us"]["p50"]
    spinning = ping_pong(lab, program, "spin")["rtt_us"]["p50"]
    assert spinning * 4 < blocked
