# SPDX-License-Identifier: Apache-2.0
"""The second disk: this project as it is now, at /opt/ivc in every machine.

    /opt/ivc/python   the ivc package and what it imports, on PYTHONPATH there
    /opt/ivc/build    libivcsock.so and pingpong
    /opt/ivc/lab      the laboratory's own scripts

It is small and made anew for every boot; nobody has to know what changed.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import sys
from importlib import metadata
from pathlib import Path

from ivc.lab.hosts import LabError
from ivc.lab.xen.cache import cached, saying
from ivc.lab.xen.image import GUEST_FILES, make_disk, run_tool

_ROOT = Path(__file__).resolve().parents[3]
_BUILT = ("libivcsock.so", "pingpong")
DISTRIBUTIONS = ("cffi", "construct", "opensomeip", "psutil", "pyroute2", "someip", "tomli-w")
# What the guests' interpreter takes, whatever Python the laboratory itself runs on.
_GUEST_PYTHON = ("--python-version", "3.11", "--only-binary", ":all:", "--no-deps")
_GUEST_PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_28_x86_64")


def make_layer(folder: Path) -> Path:
    """Make the disk inside `folder`; its path. Raises LabError."""
    missing = [name for name in _BUILT if not (_ROOT / "build" / name).exists()]
    if missing:
        raise LabError(f"not built yet: {', '.join(missing)}; run: python3 build.py")
    tree = folder / "layer"
    python = tree / "python"
    shutil.copytree(_wheels(), python)
    shutil.copytree(_ROOT / "ivc", python / "ivc", ignore=shutil.ignore_patterns("__pycache__"))
    _compile(python / "ivc")
    shutil.copytree(GUEST_FILES, tree / "lab")
    (tree / "build").mkdir()
    for name in _BUILT:
        shutil.copy(_ROOT / "build" / name, tree / "build")
    disk = folder / "layer.img"
    make_disk(tree, disk, "128M")
    shutil.rmtree(tree)
    return disk


def _compile(package: Path) -> None:
    """Compiling is slow there. Another Python than the guests' leaves what they ignore."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(package, quiet=1, invalidation_mode=mode)


def _wheels() -> Path:
    """The packages ivc imports, in the versions installed here, for the guests' Python."""
    pins = [f"{name}=={_version(name)}" for name in DISTRIBUTIONS]

    def fetch(folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder)]
        platforms = [word for name in _GUEST_PLATFORMS for word in ("--platform", name)]
        with saying(f"for the guests: {' '.join(pins)}"):
            run_tool(*command, *_GUEST_PYTHON, *platforms, *pins)

    return cached("wheels", repr((pins, _GUEST_PYTHON, _GUEST_PLATFORMS)), fetch)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        raise LabError(f"not installed here: {name}; run: python3 build.py") from None
