# SPDX-License-Identifier: Apache-2.0
"""What one hop is made of: instructions of each function, of the wrapper and of the bare ring.

    .venv/bin/python -m bench.hop

prints them as docs/performance.md has them, counted by callgrind: a send that publishes and a
receive that finds something, 64 bytes. A function's own instructions, without those it calls.
"""

from __future__ import annotations

import re
import sys
from collections import Counter

from bench.instructions import COUNT, NODE, PROGRAM, callgrind
from bench.pingpong import ROOT
from ivc.lab.control import LOOPBACK, running_loopback, wrapper_environment, wrapper_library
from ivc.lab.hosts import Lab, ended_by_signals

RING = ROOT / "build" / "ring_calls"
_LEAST = 20.0
"""Functions with fewer instructions in every column are counted together."""
_OURS = ("counted_sends", "counted_receives", "send_one", "receive_one", "need", "put", "get")
"""Of the programs that are measured."""

Costs = Counter[str]


def costs(text: str) -> Costs:
    """Instructions a function took by itself; see "Callgrind Format Specification"."""
    found: Costs = Counter()
    name, of_a_call = "", False
    for line in text.splitlines():
        if line.startswith("fn="):
            name = line[3:]
        elif line.startswith("calls="):
            of_a_call = True  # the next line has what the called one took
        elif re.match(r"\d+ \d+$", line):
            if not of_a_call:
                found[_plain(name)] += int(line.split()[1])
            of_a_call = False
    return found


def _plain(name: str) -> str:
    """Without a compiler's part, libc's version of it, or what recursion adds."""
    base = re.split(r"[.@']", name)[0]
    if base in _OURS:
        return "the program itself"
    return re.sub(r"^__(mem\w+?)_(?:avx|sse|evex)\w*$", r"\1", base)


def hop() -> dict[str, Costs]:
    """By column. Raises LabError when a part does not run."""
    columns: dict[str, Costs] = {}
    with (
        Lab({NODE: "10.77.0.1/24"}) as lab,
        running_loopback(lab, NODE, lab.directory, "eager"),
    ):
        env = wrapper_environment(wrapper_library(ROOT), lab.directory)
        ways = {
            "UDP": ([str(PROGRAM), LOOPBACK, "udp", str(COUNT)], env),
            "TCP": ([str(PROGRAM), LOOPBACK, "tcp", str(COUNT)], env),
            "bare ring": ([str(RING), str(COUNT)], {}),
        }
        for way, (command, around) in ways.items():
            sends, receives = callgrind(lab, command, around)
            columns[f"{way} send"], columns[f"{way} receive"] = costs(sends), costs(receives)
    return columns


def as_table(columns: dict[str, Costs]) -> list[str]:
    """Functions that take most first."""
    sums: Costs = sum(columns.values(), Counter())
    shown = [
        name
        for name, _ in sums.most_common()
        if any(column[name] / COUNT >= _LEAST for column in columns.values())
    ]
    rows = [(f"`{name}`" if " " not in name else name, [name]) for name in shown]
    rows += [("others", [name for name in sums if name not in shown]), ("**all**", list(sums))]
    lines = [f"| function | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for title, names in rows:
        totals = [sum(column[name] for name in names) / COUNT for column in columns.values()]
        lines.append(f"| {title} | {' | '.join(f'{total:.0f}' for total in totals)} |")
    return lines


def main() -> int:
    """Count and print."""
    with ended_by_signals():
        print("\n".join(as_table(hop())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
