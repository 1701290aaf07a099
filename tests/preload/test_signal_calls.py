# SPDX-License-Identifier: Apache-2.0
"""Handlers look and act the same with the wrapper before them."""

import subprocess
from pathlib import Path

import build

SOURCE = Path(__file__).with_name("signal_calls.c")


def test_handlers_are_the_applications(tmp_path: Path) -> None:
    program = tmp_path / "signal_calls"
    subprocess.run([*build.COMPILE, SOURCE, "-o", program], check=True)
    native, wrapped = (
        subprocess.run([program], env=env, capture_output=True, text=True, check=True).stdout
        for env in ({}, {"LD_PRELOAD": str(build.LIBRARY)})
    )
    assert "informed handler of 10: value 42" in native
    assert wrapped == native
