# SPDX-License-Identifier: Apache-2.0
"""Gather all facts, then judge them all."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ivc.doctor.case import Case, local_host
from ivc.doctor.facts import Facts, Host, Machine, Xen
from ivc.doctor.gather.controller import gather_controller
from ivc.doctor.gather.library import gather_library
from ivc.doctor.gather.machine import gather_machine, gather_process
from ivc.doctor.gather.network import gather_hosts
from ivc.doctor.gather.program import gather_program
from ivc.doctor.judge.controller import judge_controller
from ivc.doctor.judge.interfaces import judge_interfaces
from ivc.doctor.judge.library import judge_library
from ivc.doctor.judge.limits import judge_limits
from ivc.doctor.judge.netfilter import judge_netfilter
from ivc.doctor.judge.process import judge_seccomp, judge_spinning
from ivc.doctor.judge.program import judge_program
from ivc.doctor.judge.routes import judge_routes
from ivc.doctor.judge.traffic import judge_traffic
from ivc.doctor.judge.wires import judge_wires
from ivc.doctor.judge.xen import judge_xen
from ivc.errors import Finding, Severity
from ivc.network.model import Network
from ivc.plan import Plan

_JUDGES: Final[tuple[Callable[[Case], Iterator[Finding]], ...]] = (
    judge_controller,
    judge_library,
    judge_xen,
    judge_limits,
    judge_seccomp,
    judge_spinning,
    judge_program,
    judge_interfaces,
    judge_routes,
    judge_wires,
    judge_netfilter,
    judge_traffic,
)


def examine(
    run_dir: Path,
    network: Network | None = None,
    plan: Plan | None = None,
    focus: str | None = None,
    program: str | None = None,
) -> list[Finding]:
    """All findings about this machine, errors first."""
    machine = gather_machine()
    facts = Facts(
        machine,
        gather_process(),
        gather_library(),
        gather_controller(run_dir) if machine.xen is not Xen.GUEST else None,
        gather_program(program) if program is not None else None,
        _hosts(network, plan, focus, machine),
    )
    return judge(Case(facts, network, plan, focus))


def judge(case: Case) -> list[Finding]:
    """Pure: what all judges say, errors first."""
    found = [finding for judge_one in _JUDGES for finding in judge_one(case)]
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))


def _hosts(
    network: Network | None, plan: Plan | None, focus: str | None, machine: Machine
) -> tuple[Host, ...]:
    if network is None or plan is None:
        return ()
    domains = (local_host(node.domain, node.name == focus, machine.xen) for node in plan.nodes)
    planned = tuple(dict.fromkeys(netns for local, netns in domains if local))
    groups = {node.sd.group.address for node in network.nodes if node.sd is not None}
    return gather_hosts(planned, [*groups, *(node.address for node in network.nodes)])
