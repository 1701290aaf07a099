# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the network tests."""

from pathlib import Path

import pytest
from network_project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A folder with two good nodes and a good mapping."""
    return Project(tmp_path)
