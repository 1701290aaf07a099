# SPDX-License-Identifier: Apache-2.0
"""Controllers for the tests of this folder."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from controller_lab import Lab, Starter, running_lab


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Start a controller; arguments as of `running_lab`."""
    with ExitStack() as stack:

        def starter(*arguments: object, **options: object) -> Lab:
            return stack.enter_context(running_lab(tmp_path, *arguments, **options))

        yield starter
