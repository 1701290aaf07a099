# SPDX-License-Identifier: Apache-2.0
"""Random calls of one thread on sockets of its own: rings and kernel say the same, call by call.

One thread sees everything that has happened at once, so it sees most: every look that is a moment
old, every count that leaves something out.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from stream_lab import StreamNet, Way

from ivc.lab.hosts import Lab

PROGRAM = Path(__file__).with_name("loopback_walk.py")
STEPS = 400
SEEDS = 20


def walk(lab: Lab, seed: int, environment: dict[str, str]) -> list[str]:
    """What the program says."""
    command = [sys.executable, str(PROGRAM), str(seed), str(STEPS)]
    process = lab["left"].popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    lines = process.communicate(timeout=60)[0].splitlines()
    assert len(lines) == STEPS, lines[-1]
    return lines


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_every_call_ends_as_in_the_kernel(
    wrapper_hosts: Lab, loopback_nets: dict[Way, StreamNet], seed: int
) -> None:
    native = walk(wrapper_hosts, seed, {})
    wrapped = walk(wrapper_hosts, seed, loopback_nets[Way.EAGER].env)
    assert wrapped == native
