# SPDX-License-Identifier: Apache-2.0
"""The Xen scenario's verdict cannot be had for nothing, and its ratios are the right way round."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ivc.lab.xen.results import Run, as_json, as_table, ratio
from ivc.lab.xen.ways import WRAPPER, Way

PING_PONG = Run(Way.VIF, "pingpong", 64, 3000.0, 9000.0, 600, 0, 0, 1.0)
TALK = replace(PING_PONG, program="stacks", outside_messages=600, outside_lost=0)
INSIDE = replace(TALK, path=Way.DIRECT, p50=600.0, vif_fraction=0.01)


def test_a_flawless_run_is_good() -> None:
    assert all(run.good for run in (PING_PONG, TALK, INSIDE))


@pytest.mark.parametrize("flaw", [{"lost": 1}, {"spoiled": 1}, {"outside_lost": 1}])
@pytest.mark.parametrize("run", [PING_PONG, TALK, INSIDE])
def test_any_loss_is_not_good(run: Run, flaw: dict[str, Any]) -> None:
    assert not replace(run, **flaw).good


def test_stacks_whose_messages_cross_the_vif_with_ivc_are_not_good() -> None:
    assert not replace(INSIDE, vif_fraction=0.02).good


def test_without_ivc_everything_crosses_the_vif_and_that_is_good() -> None:
    assert replace(TALK, vif_fraction=1.1).good


def test_a_ratio_above_one_means_faster_than_the_same_over_the_vif() -> None:
    other = replace(PING_PONG, size=1024, p50=6000.0)
    assert ratio(INSIDE, [other, PING_PONG, TALK, INSIDE]) == 5.0


def test_without_a_run_over_the_vif_there_is_no_ratio() -> None:
    assert ratio(INSIDE, [PING_PONG, INSIDE]) is None
    assert as_json([INSIDE])["runs"][0]["ratio_to_vif"] is None
    assert as_table([INSIDE])


def test_the_json_has_what_is_promised() -> None:
    document = as_json([TALK, INSIDE])
    assert document["good"] is True
    run = document["runs"][1]
    assert (run["path"], run["protocol"], run["size"]) == ("direct", "udp", 64)
    assert run["rtt_us"] == {"p50": 600.0, "p99": 9000.0}
    assert (run["lost"], run["vif_fraction"], run["ratio_to_vif"]) == (0, 0.01, 5.0)
    assert run["outside"] == {"messages": 600, "lost": 0}


@pytest.mark.parametrize("way", list(Way))
def test_only_the_vif_does_without_controller_and_wrapper(way: Way) -> None:
    wrapped = way.environment.get("LD_PRELOAD") == WRAPPER
    assert (way is not Way.VIF) == wrapped == (way.controller is not None)
