# SPDX-License-Identifier: Apache-2.0
"""Where what takes long to make is kept, and how it gets there: whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ivc.terminal import progress

_UNFINISHED = "unfinished-"


def cache_folder() -> Path:
    """The folder, made if need be: env IVC_CACHE, else ~/.cache/ivc/xen."""
    folder = Path(os.environ.get("IVC_CACHE") or Path.home() / ".cache" / "ivc" / "xen")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def cached(kind: str, recipe: str, make: Callable[[Path], None]) -> Path:
    """The folder `make` filled for this recipe, now or in an earlier run.

    `recipe` is everything the content depends on, as text. One process makes,
    others wait for it; what was interrupted is thrown away by the next.
    """
    folder = cache_folder()
    made = folder / f"{kind}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    if made.is_dir():
        return made
    with _locked(folder / "lock"):
        for leftover in folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(leftover)
        if not made.is_dir():
            unfinished = folder / f"{_UNFINISHED}{kind}"
            unfinished.mkdir()
            try:
                make(unfinished)
                unfinished.rename(made)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return made


def say(text: str) -> None:
    """Tell whoever waits what is being done."""
    print(f"xen: {text}", file=sys.stderr, flush=True)


@contextmanager
def saying(text: str) -> Iterator[None]:
    """The same for what takes a while: on a terminal, how long already."""
    say(text)
    with progress("xen: for"):
        yield


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
