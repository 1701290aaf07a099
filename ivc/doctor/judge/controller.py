# SPDX-License-Identifier: Apache-2.0
"""Is there a controller, of this version, and with this plan?"""

from collections.abc import Iterator

from ivc import __version__
from ivc.doctor.case import Case
from ivc.doctor.facts import Controller
from ivc.doctor.finding import error, note, warning
from ivc.errors import Finding
from ivc.shm.layout import MATCH_ABI

_RESTART = "stop the controller and start the one of this installation"


def judge_controller(case: Case) -> Iterator[Finding]:
    """See above. In a guest of Xen the controller is somewhere else."""
    controller = case.facts.controller
    if controller is None:
        return
    if controller.problem:
        yield _silent(controller)
        return
    yield from _version(controller)
    yield from _abi(controller, case)
    yield from _plan(controller, case)
    yield from _traffic(controller)


def _silent(controller: Controller) -> Finding:
    where = f"controller at {controller.where}"
    if controller.is_forbidden:
        return error(
            "not-permitted",
            where,
            controller.problem,
            "a controller this user may ask",
            "run ivc doctor as root, or as the controller's user",
        )
    return error(
        "no-controller",
        where,
        controller.problem,
        "a running controller",
        "start it: ivc controller CONFIG... --mapping M; or name its --run-dir",
    )


def _version(controller: Controller) -> Iterator[Finding]:
    if controller.version != __version__:
        yield warning(
            "other-version",
            f"controller at {controller.where}",
            f"version {controller.version or 'unknown, an older one'}",
            f"{__version__}, as this program",
            _RESTART,
        )


def _abi(controller: Controller, case: Case) -> Iterator[Finding]:
    library = case.facts.library
    abi = controller.ring_abi
    if abi is not None and library.abi is not None and abi != library.abi:
        yield error(
            "abi-mismatch",
            f"controller at {controller.where}",
            f"rings of ABI {abi}",
            f"ABI {library.abi}, as {library.path} has",
            f"build both from one source; {_RESTART}",
        )
    if controller.match_abi not in (None, MATCH_ABI):
        yield error(
            "abi-mismatch",
            f"{controller.where}/match",
            "no match table" if controller.match_abi == -1 else f"ABI {controller.match_abi}",
            f"a match table of ABI {MATCH_ABI}",
            _RESTART,
        )


def _plan(controller: Controller, case: Case) -> Iterator[Finding]:
    """Nodes that the files have and the controller has not, or elsewhere."""
    known = {node.name: node for node in controller.nodes}
    for node in case.plan.nodes if case.plan is not None else ():
        here = known.get(node.name)
        should = f"{node.address} on {node.domain}"
        found = f"{here.address} on {here.domain}" if here is not None else "no such node"
        if found != should and case.focus in (None, node.name):
            yield warning(
                "other-plan",
                f"controller at {controller.where}, node {node.name}",
                found,
                f"{should}, as in the files",
                "ivc reload, if it was started with these files; else start it with them",
            )


def _traffic(controller: Controller) -> Iterator[Finding]:
    where = f"controller at {controller.where}"
    if controller.path == "network":
        yield note(
            "network-path",
            where,
            'path "network": nothing goes over rings unless a rule says so',
            'path "direct"',
            'remove path = "network" from [defaults] of the mapping, or --path from its command',
        )
    for node in controller.nodes:
        if node.quiesced:
            yield warning(
                "quiesced",
                f"{where}, node {node.name}",
                f"{node.domain} quiesced: it has no rings",
                "a domain that is served",
                f"ivc unquiesce {node.domain}",
            )
