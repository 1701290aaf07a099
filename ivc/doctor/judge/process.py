# SPDX-License-Identifier: Apache-2.0
"""What is inherited from here: filters of system calls, and how waiting programs spin."""

from collections.abc import Iterator

from ivc.doctor.case import Case
from ivc.doctor.facts import Xen
from ivc.doctor.finding import error, note, warning
from ivc.errors import Finding
from ivc.network.model import LocalHost


def judge_seccomp(case: Case) -> Iterator[Finding]:
    """A filter may keep the wrapper from what it needs."""
    process = case.facts.process
    where = "this process (/proc/self/status)"
    if process.blocked:
        yield error(
            "seccomp",
            where,
            f"a seccomp filter against {', '.join(process.blocked)}",
            "what the wrapper needs to be allowed",
            "allow it in the container's or unit's filter (SystemCallFilter=)",
        )
    elif process.seccomp:
        yield note(
            "seccomp",
            where,
            "a seccomp filter, which lets pass what was tried",
            "none",
            "if programs fail here and nowhere else, start them without the filter",
        )


def judge_spinning(case: Case) -> Iterator[Finding]:
    """Spinning is what makes it fast, and takes processors."""
    process, cpus = case.facts.process, case.facts.machine.cpus
    here = sum(isinstance(case.domain(node.name), LocalHost) for node in case.nodes)
    fixed = process.spin if process.spin is not None and process.spin[:1].isdecimal() else None
    if process.spin is not None and fixed is None:
        yield warning(
            "bad-spin",
            "IVC_SPIN_US",
            f'"{process.spin}", which is ignored',
            "a number of microseconds",
            "unset it, or write a number",
        )
    spins = fixed is not None and fixed.strip("0") != ""
    if fixed is not None and not spins:
        yield note(
            "no-spin",
            "IVC_SPIN_US",
            "0: waiting programs sleep at once",
            "unset: a budget that adapts itself",
            "unset it, if latency matters more than processor time",
        )
    elif fixed is None and cpus == 1 and case.facts.machine.xen is Xen.NONE:
        yield note(
            "no-spin",
            "this machine",
            "one processor: nobody spins, so a ring is little faster than the network",
            "two or more",
            "give the machine, or the guest, another processor",
        )
    elif spins and min(process.cpus, cpus) < max(here, 2):
        yield warning(
            "spin-cores",
            "IVC_SPIN_US",
            f"{fixed} us of spinning by {max(here, 2)} nodes on {min(process.cpus, cpus)} "
            "processors",
            "a processor for each node that waits",
            "unset IVC_SPIN_US: the budget then adapts itself",
        )
    elif here > cpus:
        yield note(
            "spin-cores",
            "this machine",
            f"{here} nodes on {cpus} processors",
            "a processor for each node that waits",
            "latency will vary; IVC_SPIN_US=0 for programs whose latency does not matter",
        )
