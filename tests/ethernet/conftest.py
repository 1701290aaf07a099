# SPDX-License-Identifier: Apache-2.0
"""dom0 with guests, and an ECU outside, made anew for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ethernet_field import Field, field_of_namespaces


@pytest.fixture
def dom0(tmp_path: Path) -> Iterator[Field]:
    """Guests on a bridge that was there before, as xl left it; eth1 is free."""
    with field_of_namespaces(tmp_path) as made:
        made.make_bridge()
        made.plug_guests()
        yield made


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Field]:
    """No bridge yet, no guest plugged in."""
    with field_of_namespaces(tmp_path) as made:
        yield made
