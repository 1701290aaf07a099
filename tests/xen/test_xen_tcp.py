# SPDX-License-Identifier: Apache-2.0
"""Third-party SOME/IP stacks over TCP from guest to guest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tcp_calls import calls_of, ringed

from ivc.lab.control import CLIENT_HOST
from ivc.lab.xen.control import running_controller
from ivc.lab.xen.lab import XenLab
from ivc.lab.xen.vifs import payload_bytes

CALLS = 300


@pytest.fixture(scope="module", params=["direct", "relay"])
def tcp_lab(lab: XenLab, request: pytest.FixtureRequest) -> Iterator[XenLab]:
    """Connections go over rings from their first byte."""
    with running_controller(lab, request.param, promote="eager"):
        yield lab


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("opensomeip", "pysomeip"),
        pytest.param("pysomeip", "opensomeip", marks=pytest.mark.full),
        pytest.param("opensomeip", "opensomeip", marks=pytest.mark.full),
        pytest.param("pysomeip", "pysomeip", marks=pytest.mark.full),
    ],
)
def test_every_call_over_tcp_is_answered_by_memory(
    tcp_lab: XenLab, client: str, server: str
) -> None:
    calls = tcp_lab.domU(CLIENT_HOST)
    before = payload_bytes(tcp_lab, calls)
    with calls_of(tcp_lab, client, server, CALLS) as said:
        assert said == f"{CALLS} of {CALLS}\n"
        by_ring = ringed(tcp_lab)
    crossed = payload_bytes(tcp_lab, calls) - before
    assert by_ring > 0
    assert crossed < 0.02 * by_ring, (crossed, by_ring)
