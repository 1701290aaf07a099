# SPDX-License-Identifier: Apache-2.0
"""Two hosts behind a bridge, for the tests that need some."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ivc.lab.hosts import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab({"hmi": "10.77.0.1/24", "adas": "10.77.0.2/24"}) as made:
        yield made
