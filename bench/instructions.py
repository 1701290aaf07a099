# SPDX-License-Identifier: Apache-2.0
"""Instructions the wrapper adds to a call, counted by callgrind: the same on any machine's mood.

    .venv/bin/python -m bench.instructions [--write]

prints what `sendto` and `recvfrom` of 64 bytes, and waits for such a message, take more than
natively, and what bench/instructions.json has; --write puts it there. Those are of one compiler:
see `compiler`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.cases import WAITS
from bench.pingpong import ROOT
from ivc.lab.control import LOOPBACK, running_loopback, wrapper_environment, wrapper_library
from ivc.lab.hosts import Host, Lab, LabError, ended_by_signals, stop

PROGRAM = ROOT / "build" / "calls"
WAITING = ROOT / "build" / "waits"
KEPT = ROOT / "bench" / "instructions.json"
TOLERANCE = 0.1
"""Of what is kept; and a few more, for the small ones."""
_FEW = 8
COUNT = 100
"""Of each call."""
NODE = "self"
_OTHER_ADDRESS = "10.77.0.1"  # of no node: sockets there do not match
# One pattern: with two options callgrind counts nothing in the one it dumps after.
_COLLECT = ("--toggle-collect=counted_*", "--dump-after=counted_sends")
_COLLECT_WAITS = ("--toggle-collect=counted_wait",)
_PATIENCE_SECONDS = 60.0
MANY = 1000
"""Idle sockets in a set beside the one that is waited for,"""
USED = 100
"""or so many that have rings, too."""
KINDS = ("ready", "idle")
"""Of waits: something is there; or nothing comes for a millisecond, and nobody spins."""

Counts = dict[str, float]


def count_all() -> Counts:
    """By name. Raises LabError when a part does not run."""
    return count_calls() | count_waits()


def count_calls() -> Counts:
    """Sends and receives, as "udp ring send"."""
    counts: Counts = {}
    with _lab() as (lab, wrapped):
        alone = wrapped | {"IVC_RUN_DIR": str(lab.directory / "none")}
        sides = {
            "ring": (LOOPBACK, wrapped),
            "unmatched": (_OTHER_ADDRESS, wrapped),
            "without controller": (_OTHER_ADDRESS, alone),
        }
        for protocol in ("udp", "tcp"):
            native = _count(lab, protocol, LOOPBACK, {})
            for side, (address, env) in sides.items():
                for call, own in _count(lab, protocol, address, env).items():
                    counts[f"{protocol} {side} {call}"] = round(own - native[call], 1)
    return counts


def count_waits() -> Counts:
    """Waits for a socket on a ring, as "udp poll ready"; see KINDS."""
    counts: Counts = {}
    with _lab() as (lab, wrapped):
        for how in WAITS:
            counts |= _count_waits(lab, wrapped, how)
    return counts


@contextlib.contextmanager
def _lab() -> Iterator[tuple[Lab, dict[str, str]]]:
    """A host that is a node, and what makes programs there wrapped ones."""
    with (
        Lab({NODE: f"{_OTHER_ADDRESS}/24"}) as lab,
        running_loopback(lab, NODE, lab.directory, "eager"),
    ):
        yield lab, wrapper_environment(wrapper_library(ROOT), lab.directory)


def many(name: str) -> str:
    """The name of a wait in a set of many sockets that have never got anything."""
    return f"{name}, {MANY} idle"


def used(name: str) -> str:
    """The name of a wait in a set of sockets that have rings."""
    return f"{name}, {USED} once used"


def kept() -> tuple[str, Counts]:
    """What the repository has, and of which compiler."""
    found = json.loads(KEPT.read_text())
    return found["compiler"], found["counts"]


def compiler() -> str:
    """What of a compiler counts depend on: another major version needs counts of its own."""
    words = (subprocess.check_output(["gcc", f"-dump{what}"]) for what in ("machine", "version"))
    machine, version = (word.decode().strip() for word in words)
    return f"gcc {version.partition('.')[0]}, {machine}"


def differs(counted: float, expected: float) -> bool:
    """More than the tolerance, either way: what has become less is to be written down, too."""
    return abs(counted - expected) > max(_FEW, TOLERANCE * expected)


def _count(lab: Lab, protocol: str, address: str, env: Mapping[str, str]) -> Counts:
    sends, receives = callgrind(lab, [str(PROGRAM), address, protocol, str(COUNT)], env)
    return {"send": _total(sends) / COUNT, "receive": _total(receives) / COUNT}


def callgrind(lab: Lab, command: Sequence[str], env: Mapping[str, str]) -> tuple[str, str]:
    """What it has written of `counted_sends` and of `counted_receives` of a program."""
    out = lab.directory / "callgrind"
    options = [f"--callgrind-out-file={out}", "--compress-strings=no", "--compress-pos=no"]
    _run(lab[NODE], ["valgrind", "--tool=callgrind", *options, *_COLLECT, *command], env)
    return Path(f"{out}.1").read_text(), out.read_text()


def _count_waits(lab: Lab, env: Mapping[str, str], how: str) -> Counts:
    counts: Counts = {}
    for kind in KINDS:
        name = f"udp {how} {kind}"
        native = _count_wait(lab, {}, name)  # the same of a connection
        found = {text: _count_wait(lab, env, text) for text in (name, f"tcp {how} {kind}")}
        if how.startswith("epoll"):
            found[many(name)] = _count_wait(lab, env, name, MANY)
            found[used(name)] = _count_wait(lab, env, name, USED, USED)
        counts |= {text: round(count - native, 1) for text, count in found.items()}
    return counts


def _count_wait(
    lab: Lab, env: Mapping[str, str], name: str, idle: int = 0, rings: int = 0
) -> float:
    out = lab.directory / "callgrind"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *_COLLECT_WAITS]
    words = [LOOPBACK, *name.split(), str(idle), str(rings), str(COUNT)]
    _run(lab[NODE], [*command, str(WAITING), *words], dict(env) | {"IVC_SPIN_US": "0"})
    return _total(out.read_text()) / COUNT


def _total(text: str) -> int:
    """Of one dump; see "totals" in valgrind's description of the format."""
    found = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
    if not found or found[1] == "0":
        raise LabError("callgrind's output has no total")
    return int(found[1])


def _run(host: Host, command: list[str], env: Mapping[str, str]) -> None:
    process = host.popen(command, env=env, stderr=subprocess.PIPE)
    try:
        _, errors = process.communicate(timeout=_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        raise LabError(f"does not end within {_PATIENCE_SECONDS:.0f} s: {command}") from None
    finally:
        stop(process)
    if process.returncode != 0:
        raise LabError(f"fails (status {process.returncode}): {command}\n{errors.strip()}")


def main() -> int:
    """Count and print; 0 if nothing differs."""
    parser = argparse.ArgumentParser(prog="instructions.py", description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep what is counted now")
    options = parser.parse_args()
    with ended_by_signals():
        counts = count_all()
    if options.write:
        found = {"compiler": compiler(), "counts": counts}
        KEPT.write_text(json.dumps(found, indent=4) + "\n")
    of, before = kept()
    if of != compiler():
        print(f"these are of {compiler()}, those kept of {of}")
    for name, counted in counts.items():
        mark = "  differs" if differs(counted, before.get(name, 0.0)) else ""
        print(f"{name:36}{counted:8.1f}{before.get(name, 0.0):8.1f}{mark}")
    return int(any(differs(counted, before.get(name, 0.0)) for name, counted in counts.items()))


if __name__ == "__main__":
    sys.exit(main())
