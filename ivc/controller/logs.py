# SPDX-License-Identifier: Apache-2.0
"""What the controller says while it runs, on standard error: as text, or one JSON object a line."""

import json
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from ivc.terminal import has_colours

READY: Final = "ivc.controller.ready"
"""Who says that the controller is ready: whoever has started it waits for that, at any level."""

FORMATS: Final = ("text", "json")
LEVELS: Final = ("debug", "info", "warning", "error")

BURST: Final = 10
PERIOD_S: Final = 10.0

_COLOURS: Final = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m"}
_PLAIN: Final = "\x1b[0m"


def set_up_logs(chosen: str, level: str) -> None:
    """Everything that is logged from now on, in one of `FORMATS`, from one of `LEVELS` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Limit())
    handler.setFormatter(Json() if chosen == "json" else Text(has_colours(sys.stderr)))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger(READY).setLevel(logging.INFO)


class Limit(logging.Filter):
    """Of what one place in the program says, at most `BURST` messages in `PERIOD_S`.

    Others make it speak: a process that connects and breaks the protocol may do so thousands of
    times a second. One more says that there will be silence, the first one after it how many
    were left out.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is let through."""
        place, now = (record.pathname, record.lineno), self._now()
        began, count = self._seen.get(place, (now, 0))
        if now - began >= PERIOD_S:
            record.left_out = max(count - BURST - 1, 0)
            began, count = now, 0
        self._seen[place] = (began, count + 1)
        record.is_last = count == BURST
        return count <= BURST


class Text(logging.Formatter):
    """`ivc controller: WARNING: ...`; what is no more than information goes without its level."""

    def __init__(self, coloured: bool = False) -> None:
        super().__init__()
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        """Without whatever could disturb a terminal: peers choose their names."""
        colour = _COLOURS.get(record.levelno, "") if self._coloured else ""
        level = f"{colour}{record.levelname}{_PLAIN if colour else ''}: "
        told = "" if record.levelno == logging.INFO else level
        return f"ivc controller: {told}{_printable(record.getMessage())}{_around(record)}"


class Json(logging.Formatter):
    """An object with `time` (UTC), `level`, `source`, `message`; `left_out` if some were."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "source": record.name,
            "message": record.getMessage() + _around(record, counted=False),
        }
        left_out = getattr(record, "left_out", 0)
        return json.dumps(told | ({"left_out": left_out} if left_out else {}))


def _around(record: logging.LogRecord, counted: bool = True) -> str:
    """What `Limit` has to say of a message's like."""
    left_out = getattr(record, "left_out", 0) if counted else 0
    before = f" ({left_out} like it were left out before)" if left_out else ""
    is_last = getattr(record, "is_last", False)
    return before + (f" (more like it are left out for {PERIOD_S:.0f} s)" if is_last else "")


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
