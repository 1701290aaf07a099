# SPDX-License-Identifier: Apache-2.0
"""Connections from guest to guest, whose guest is quiesced, saved or destroyed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tcp_calls import answers, calling
from traffic import SECONDS, before, die, given_back, is_well, wait_for_rings

from ivc.lab.control import SERVER_HOST
from ivc.lab.xen.control import read_status, running_controller
from ivc.lab.xen.counts import Counts, look
from ivc.lab.xen.lab import XenLab

__all__ = ["before"]  # a fixture


# By the relay dom0 has rings with both guests: what a direct flow needs, and more.
@pytest.fixture(scope="module", params=[pytest.param("direct", marks=pytest.mark.full), "relay"])
def controlled(lab: XenLab, request: pytest.FixtureRequest) -> Iterator[XenLab]:
    with running_controller(lab, request.param, promote="eager"):
        yield lab


def test_no_byte_is_lost_when_a_guest_is_quiesced(controlled: XenLab, before: Counts) -> None:
    with calling(controlled) as client:
        quiesced = controlled.dom0.run(
            ["python3", "-m", "ivc", "quiesce", SERVER_HOST, "--json"], SECONDS
        )
        assert json.loads(quiesced.stdout)["stage"] == "quiet"
        assert read_status(controlled)["flows"] == []
        controlled.dom0.run(["python3", "-m", "ivc", "unquiesce", SERVER_HOST], SECONDS)
        wait_for_rings(controlled, client)
        answered, refused = answers(client)
    assert answered > 0 and refused == 0
    given_back(controlled, before)


@pytest.mark.full
def test_a_guest_is_saved_and_restored_with_its_connections(
    controlled: XenLab, before: Counts
) -> None:
    guest = controlled.domU(SERVER_HOST)
    with calling(controlled) as client:
        guest.save()
        assert look(controlled).zombies == 0
        guest.restore()
        assert answers(client)[0] > 0
    is_well(guest)
    given_back(controlled, before)


def test_a_destroyed_guest_leaves_nothing_of_its_connections(
    controlled: XenLab, before: Counts
) -> None:
    guest = controlled.domU(SERVER_HOST)
    with calling(controlled) as client:
        die(controlled, guest)
        client.kill()
        guest.create()
    given_back(controlled, before)
