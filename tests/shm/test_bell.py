# SPDX-License-Identifier: Apache-2.0
"""A bell can be waited on, and is consumed before it can be heard again."""

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from ivc.shm.bell import Bell

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("channel", [False, True])
def test_rings_collapse_and_are_consumed_once(channel: bool) -> None:
    bell = Bell(channel=channel)
    assert select.select([bell], [], [], 0)[0] == []
    bell.ring()
    bell.ring()
    assert select.select([bell], [], [], 0)[0] == [bell]
    assert bell.consume()
    assert not bell.consume()
    bell.close()


@pytest.mark.parametrize(("channel", "edges"), [(False, 1), (True, 0)])
def test_as_an_event_channel_there_is_no_edge_while_unread(channel: bool, edges: int) -> None:
    bell = Bell(channel=channel)
    with select.epoll() as waiter:
        waiter.register(bell, select.EPOLLIN | select.EPOLLET)
        bell.ring()
        assert len(waiter.poll(0)) == 1
        bell.ring()
        assert len(waiter.poll(0)) == edges
        bell.consume()
        bell.ring()
        assert len(waiter.poll(0)) == 1
    bell.close()


def test_an_adopted_descriptor_rings_the_same_bell() -> None:
    bell = Bell()
    other = Bell(os.dup(bell.fileno()))
    other.ring()
    assert bell.consume()
    bell.close()
    other.close()


@pytest.mark.parametrize(("value", "channel"), [("channel", "True"), ("", "False")])
def test_the_environment_chooses_the_mode(value: str, channel: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", "from ivc.shm.bell import Bell; print(Bell()._bell.channel)"],
        env=os.environ | {"IVC_BELL": value},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == channel
