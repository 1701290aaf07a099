# SPDX-License-Identifier: Apache-2.0
"""A sound field, made anew for each test."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from doctor_field import Field, sound_field

from ivc.doctor import examine
from ivc.doctor.gather.library import gather_library

_library = cache(gather_library)
"""The same each time, and asked for in processes of its own."""


@pytest.fixture
def field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Field]:
    monkeypatch.setattr(examine, "gather_library", _library)
    with sound_field(tmp_path) as made:
        yield made
