# SPDX-License-Identifier: Apache-2.0
"""A slip in a requirement's id must not pass as a requirement that is tested."""

import re

import pytest

_REQUIREMENT = re.compile(r"feat_req_someip(sd|tp|ids)?_\d+")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("req"):
            if not mark.args or not all(_REQUIREMENT.fullmatch(name) for name in mark.args):
                raise pytest.UsageError(f"{item.nodeid}: no requirement ids: {mark.args}")
