# SPDX-License-Identifier: Apache-2.0
"""SOME/IP stacks of others make their calls either way, and those that are missing are told so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench import stacks
from bench.flows import Figures
from ivc.lab.hosts import LabError


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls enough to see that it runs."""
    monkeypatch.setattr(stacks, "_WARM", 50)
    monkeypatch.setattr(stacks, "_COUNT", 100)


def names(stack: str) -> set[str]:
    """What is measured of a stack."""
    found = ("veth, p50 us", "ivc, p50 us", "saved, %")
    return {f"{stack} {size} B: {figure}" for size in (64, 8192) for figure in found}


def times(figures: Figures) -> list[float]:
    return [value for name, value in figures.items() if name.endswith("us")]


def test_opensomeip_is_measured_by_veth_and_by_ivc(
    few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VSOMEIP_PREFIX", raising=False)
    figures = stacks.measure_stacks(1)
    assert set(figures) == names("opensomeip")
    assert min(times(figures)) > 0


@pytest.mark.skipif("VSOMEIP_PREFIX" not in os.environ, reason="VSOMEIP_PREFIX is not set")
def test_vsomeip_is_measured_where_it_is(few: None) -> None:
    figures = stacks.measure_stacks(1)
    assert names("vsomeip") <= set(figures)
    assert min(times(figures)) > 0


def test_vsomeip_that_is_not_where_it_should_be_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSOMEIP_PREFIX", str(tmp_path))
    with pytest.raises(LabError, match=f"found {tmp_path}, expected vsomeip/vsomeip.hpp"):
        stacks.find_vsomeip()
