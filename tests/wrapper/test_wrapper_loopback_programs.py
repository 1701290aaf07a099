# SPDX-License-Identifier: Apache-2.0
"""redis, a web server and curl over loopback: the same results on rings, and no slower."""

from __future__ import annotations

import os

import pytest

from bench.programs import SMALL, TRIALS, Size, measure

AT_LEAST = 0.95
BY_KERNEL_AT_MOST = 0.5  # whoever gets no CPU for 10 ms has the kernel buffer for him
ROUNDS = 5

needs_programs = pytest.mark.parametrize(
    "trial",
    [
        pytest.param(name, marks=pytest.mark.skipif(bool(one.missing), reason=str(one.missing)))
        for name, one in TRIALS.items()
    ],
)


@needs_programs
def test_programs_come_to_the_same_by_ring(trial: str) -> None:
    report = measure([trial], 1, SMALL, "eager")
    assert len(report.results[trial]) == 1, sorted(report.results[trial])
    assert report.carried[trial] < BY_KERNEL_AT_MOST


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.skipif(not os.environ.get("IVC_FULL"), reason="measures for minutes: IVC_FULL=1")
@needs_programs
def test_programs_are_as_fast_by_ring(trial: str) -> None:
    report = measure([trial], ROUNDS, Size())
    assert len(report.results[trial]) == 1, sorted(report.results[trial])
    slower = [one for one in report.comparisons if one.ratio < AT_LEAST]
    assert not slower
