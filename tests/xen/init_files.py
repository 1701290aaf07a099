# SPDX-License-Identifier: Apache-2.0
"""Puts into dom0 what `build.py install --init` makes, and a network to control."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from ivc.lab.xen.control import FOLDER, write_configuration
from ivc.lab.xen.lab import XenLab

ROOT = Path(__file__).parents[2]
# As pip would install it; the laboratory has its packages in a folder of their own.
PROGRAM = '#!/bin/sh\nPYTHONPATH=/opt/ivc/python exec python3 -m ivc "$@"\n'


def install(lab: XenLab, init: str) -> None:
    """Everything for this init system, as on an image, and nothing started."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "build.py", "install", "--prefix", "/usr"]
        command += ["--init", init, "--destdir", folder]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        for path in Path(folder).rglob("etc/**/*"):
            if path.is_file():
                target = f"/{path.relative_to(folder)}"
                lab.dom0.put(path, target, path.stat().st_mode & 0o777)
    lab.dom0.put(PROGRAM.encode(), "/usr/bin/ivc", 0o755)
    for path_there in write_configuration(lab):
        lab.dom0.shell(f"install -D -t {FOLDER}/network {path_there}")
