# SPDX-License-Identifier: Apache-2.0
"""What the Xen laboratory puts into its machines."""

import tomllib
from pathlib import Path

from ivc.lab.xen.layer import DISTRIBUTIONS

ROOT = Path(__file__).parent.parent.parent


def test_machines_have_everything_ivc_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {pin.partition("==")[0] for pin in project["dependencies"]}
    assert needed <= set(DISTRIBUTIONS)
