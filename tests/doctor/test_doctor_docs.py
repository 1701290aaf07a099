# SPDX-License-Identifier: Apache-2.0
"""Every code a judge may give stands in docs/doctor.md, and no other."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_codes_are_those_of_the_docs() -> None:
    judges = (ROOT / "ivc" / "doctor" / "judge").glob("*.py")
    text = "".join(path.read_text() for path in judges)
    given = set(re.findall(r'(?:(?:error|warning|note)\(|Severity\.\w+,)\s*"([a-z-]+)"', text))
    table = (ROOT / "docs" / "doctor.md").read_text().split("## Findings")[1].split("###")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert given == set(re.findall(r"`([a-z-]+)`", "".join(rows)))
