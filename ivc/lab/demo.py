# SPDX-License-Identifier: Apache-2.0
"""The main job, shown: unmodified SOME/IP programs, over the network and over rings.

Each pair of third-party stacks runs three times: over the kernel network
without IVC, over direct rings, and relayed through the controller. Exit status:
0 when nothing was lost and next to nothing crossed the bridge, 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ivc.errors import IvcError
from ivc.lab.control import CLIENT_HOST, SERVER_HOST, wrapper_library
from ivc.lab.hosts import (
    Lab,
    Mode,
    available_mode,
    ended_by_signals,
    enter_user_namespace,
    why_no_namespaces,
)
from ivc.lab.phase import Carrier, Pair, Settings, run_phase
from ivc.lab.report import WIRE_LIMIT, Results, as_json, as_table, is_good
from ivc.terminal import progress

PAIRS = (Pair("opensomeip", "pysomeip"), Pair("pysomeip", "opensomeip"))

_NETWORKS = {
    Mode.ROOT: ("10.77.0.1/24", "10.77.0.2/24"),
    Mode.USER: ("10.77.0.1/24", "10.77.0.2/24"),
    Mode.LOOPBACK: ("127.77.0.1/8", "127.77.0.2/8"),
}
_WANTED = (
    "expected nothing lost, doubled or out of order, "
    f"and with IVC less than {WIRE_LIMIT:.0%} of the payload on the bridge"
)
_PAYLOAD_MAX = 1392  # SOME/IP over UDP: one message, one datagram
_EXPLAINED = {
    Mode.ROOT: "two hosts: network namespaces behind a bridge",
    Mode.USER: "two hosts: network namespaces behind a bridge, in a user namespace without root",
    Mode.LOOPBACK: "two 127.x addresses instead of hosts, and no bridge to count on: "
    "no network namespaces",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    options = _options(arguments)
    mode = available_mode()
    if mode is Mode.USER:
        given = sys.argv[1:] if arguments is None else arguments
        enter_user_namespace([sys.executable, "-m", "ivc.lab.demo", *given])
    settings = Settings(
        count=options.count,
        payload=options.payload,
        library=wrapper_library(Path.cwd()),
        kill_controller=options.without_controller,
    )
    try:
        with ended_by_signals():
            results = _run(mode, settings)
    except KeyboardInterrupt:
        _say("interrupted; everything is removed")
        return 130
    except IvcError as error:
        _say(f"error: {error}")
        return 1
    print(json.dumps(as_json(mode, results)) if options.json else as_table(results), flush=True)
    if is_good(results):
        return 0
    _say(f"not good: {_WANTED}")
    return 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="build.py demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--count", type=int, default=10_000, help="calls of each run (10000)")
    parser.add_argument(
        "--payload", type=int, default=64, help=f"payload bytes, 4 to {_PAYLOAD_MAX} (64)"
    )
    parser.add_argument(
        "--without-controller",
        action="store_true",
        help="negative run: the controller is killed before the programs start",
    )
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error(f"--count: found {options.count}, expected at least 1")
    if not 4 <= options.payload <= _PAYLOAD_MAX:
        parser.error(f"--payload: found {options.payload}, expected 4 to {_PAYLOAD_MAX}")
    return options


def _run(mode: Mode, settings: Settings) -> Results:
    why = f" ({why_no_namespaces()})" if mode is Mode.LOOPBACK else ""
    _say(_EXPLAINED[mode] + why)
    results: Results = {}
    with Lab(dict(zip((CLIENT_HOST, SERVER_HOST), _NETWORKS[mode], strict=True)), mode) as lab:
        for pair in PAIRS:
            results[pair] = {}
            for carrier in Carrier:
                step = f"{pair.server} server, {pair.client} client: {carrier}"
                _say(f"{step} ...")
                with progress(f"demo: {step},"):
                    results[pair][carrier] = run_phase(lab, pair, carrier, settings)
    return results


def _say(text: str) -> None:
    print(f"demo: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
