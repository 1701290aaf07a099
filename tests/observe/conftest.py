# SPDX-License-Identifier: Apache-2.0
"""Pictures to look at."""

import pytest
from pictures import Picture, made

from ivc.observe.topology import Topology


@pytest.fixture
def picture() -> Picture:
    return made


SIZES = [(0, None), (1, None), (2, None), (9, "big"), (17, "big"), (60, None)]


@pytest.fixture(params=SIZES, ids=str)
def any_size(request: pytest.FixtureRequest) -> Topology:
    """Pictures small and large, each node a domain or all one, with two nodes outside."""
    count, domain = request.param
    names = tuple(f"ecu-{number:02d}" for number in range(count))
    return made(names, outside=("tcu", "tester"), domain=domain)
