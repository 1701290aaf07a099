# SPDX-License-Identifier: Apache-2.0
"""What a terminal is told beyond text: colours, and that something goes on."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

PATIENCE_S: Final = 2.0
"""Who waits longer is told that it goes on."""

_CLEAR: Final = "\r\x1b[K"


def has_colours(stream: TextIO) -> bool:
    """Whether colours are wanted there: a terminal, and NO_COLOR not set (https://no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody looks at it who can be shown more than lines."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def progress(text: str, stream: TextIO | None = None) -> Iterator[None]:
    """While the block runs: after two seconds a line on the terminal, with the time it has taken.

    The line is gone at the end. Elsewhere than on a terminal nothing is shown. In the meantime
    nobody else should write there.
    """
    to = sys.stderr if stream is None else stream
    if not is_terminal(to):
        yield
        return
    done = threading.Event()
    shower = threading.Thread(target=_show, args=(text, to, done), daemon=True)
    shower.start()
    try:
        yield
    finally:
        done.set()
        shower.join()


def _show(text: str, stream: TextIO, done: threading.Event) -> None:
    began = time.monotonic()
    shown = False
    while not done.wait(1.0 if shown else PATIENCE_S):
        stream.write(f"{_CLEAR}{text} {time.monotonic() - began:.0f} s")
        stream.flush()
        shown = True
    if shown:
        stream.write(_CLEAR)
        stream.flush()
