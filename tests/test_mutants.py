# SPDX-License-Identifier: Apache-2.0
"""Each branch of the matcher of rules is there for a test."""

import os
from pathlib import Path

import pytest
from mutants import ROOT, C, Mutant, is_noticed, mutants

pytestmark = pytest.mark.skipif(
    not os.environ.get("IVC_FULL"), reason="takes a quarter of an hour: build.py full"
)
EQUIVALENT = {("ivc/network/ways.py", "some", "True")}
"""By file, what was replaced and by what: mutants that do the same, only slower."""


def test_with_nothing_changed_no_test_fails(tmp_path: Path) -> None:
    assert not is_noticed(None, tmp_path)
    text = (ROOT / C[0]).read_text()
    assert not is_noticed(Mutant(C[0], 0, len(text), text), tmp_path)


@pytest.mark.parametrize("mutant", mutants(), ids=str)
def test_without_a_branch_a_test_fails(mutant: Mutant, tmp_path: Path) -> None:
    same = (mutant.file, mutant.was, mutant.becomes) in EQUIVALENT
    assert is_noticed(mutant, tmp_path) is not same
