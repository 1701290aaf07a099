# SPDX-License-Identifier: Apache-2.0
"""Rules on messages that go by TCP from guest to guest: dom0's relay looks into them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tcp_calls import answers, calling

from ivc.lab.control import CLIENT_HOST, SERVER_HOST
from ivc.lab.xen.control import MAPPING, controller_of, read_status, write_configuration
from ivc.lab.xen.lab import XenLab

METHOD = 0x0421
RULE = f"""
[[rule]]
method = {METHOD}
type = "REQUEST"
protocol = "tcp"
action = "deny"
answer = "E_NOT_REACHABLE"
"""


@pytest.fixture
def ruled(lab: XenLab) -> Iterator[XenLab]:
    """All direct, but what the rule is for."""
    files = write_configuration(lab, promote="lazy")
    mapping = lab.dom0.run(["cat", MAPPING]).stdout
    lab.dom0.put((mapping + RULE).encode(), MAPPING)
    with controller_of(lab, [*files, "--mapping", MAPPING]):
        yield lab


def test_a_call_by_tcp_is_denied_and_answered_for_the_service(ruled: XenLab) -> None:
    with calling(ruled, METHOD) as client:
        answered, refused = answers(client)
        (denied,) = read_status(ruled)["relay"]["denied"]
    assert answered == 0 and refused > 0
    assert (denied["from"], denied["to"], denied["passed"]) == (CLIENT_HOST, SERVER_HOST, False)
    assert (denied["method"], denied["messages"]) == (METHOD, refused)
