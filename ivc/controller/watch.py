# SPDX-License-Identifier: Apache-2.0
"""Looking at a controller's status again and again, until somebody interrupts."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from ivc.controller.rates import with_rates
from ivc.controller.statusview import render_status

LEAST_S: Final = 0.1
MOST_S: Final = 3600.0

_FROM_THE_TOP: Final = "\x1b[H\x1b[J"


def seconds(text: str) -> float:
    """An argument: how long from one look to the next."""
    with suppress(ValueError):
        number = float(text)
        if LEAST_S <= number <= MOST_S:
            return number
    raise argparse.ArgumentTypeError(
        f"found {text!r}, expected seconds from {LEAST_S} to {MOST_S:.0f}, such as 2"
    )


def watch(read: Callable[[], dict[str, Any]], every: float, as_json: bool) -> int:
    """Print each look, one line of JSON, or over the last one on a terminal."""
    before = None
    with suppress(KeyboardInterrupt):  # how it is meant to end
        while True:
            document = read()
            _show(with_rates(before, document), as_json)
            before = document
            time.sleep(every)
    return 0


def _show(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        text = json.dumps(document) + "\n"
    else:
        text = render_status(document)
        text = _FROM_THE_TOP + text if sys.stdout.isatty() else text + "\n"
    sys.stdout.write(text)
    sys.stdout.flush()
