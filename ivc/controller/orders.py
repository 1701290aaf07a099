# SPDX-License-Identifier: Apache-2.0
"""What a running controller can be told to do: one JSON object a line, answered by one.

    {"order": "quiesce", "domain": NAME, "timeout": SECONDS}   answered when it is quiet, or late
    {"order": "unquiesce", "domain": NAME}
    {"order": "reload"}                                        answered when it is applied
    {"order": "plan"}
    {"order": "fault-add", "fault": see ivc.controller.faults}
    {"order": "fault-list"}
    {"order": "fault-clear", "id": N or null for all}

The answer to the first two is {"domain": NAME, "stage": how far it is, "waiting_for": [processes]};
to a reload {"changed": whether there is a new plan, "difference": [lines]}; to the last {"plan":
the plan's document, "path": what the command line says instead of the mapping, or null}. Faults
are answered with {"faults": [those added, there, or cleared]}. With
"error" it is not as ordered; "exit_code" then says what kind of error it is.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from ivc.controller.answers import Answer
from ivc.controller.data_communication import DataCommunicationController
from ivc.controller.errors import ControllerError
from ivc.controller.faultview import describe_fault
from ivc.controller.quiesce import Quiesced, Quiescence, Stage, domains_on
from ivc.controller.run_dir import ORDER_MOST_S
from ivc.errors import IvcError
from ivc.network import Domain, LocalHost, Path, XenDomain
from ivc.plan import Plan
from ivc.platform import Platform


class Orders:
    """Takes orders; `plan` is asked anew each time."""

    def __init__(
        self,
        platform: Platform,
        quiescence: Quiescence,
        plan: Callable[[], Plan],
        reload: Callable[[], list[str] | None],
        path: Path | None,
        dcc: DataCommunicationController,
        refault: Callable[[], None],
    ) -> None:
        """`reload` returns what has changed, or None, and raises `IvcError` or `OSError`;
        `refault` has faults that were added or removed take effect."""
        self._platform = platform
        self._quiescence = quiescence
        self._plan = plan
        self._reload = reload
        self._path = path
        self._dcc = dcc
        self._refault = refault
        self._waiting: list[tuple[Quiesced, float, Answer]] = []

    def respond(self, question: bytes, answer: Answer) -> None:
        """Do what somebody asks, and answer: now or later."""
        try:
            self._obey(json.loads(question), answer)
        except (ValueError, TypeError, KeyError, AttributeError):
            answer({"error": f"no order: {question[:80]!r}"})
        except (IvcError, OSError) as error:
            code = error.exit_code if isinstance(error, IvcError) else 1
            answer({"error": str(error), "exit_code": code})

    def turn(self) -> None:
        """Answer those who have waited long enough."""
        waiting, self._waiting = self._waiting, []
        for one, deadline, answer in waiting:
            if one not in list(self._quiescence):
                answer(self._describe(one) | {"error": f"{one} is quiesced no more"})
            elif one.stage is Stage.QUIET:
                answer(self._describe(one))
            elif time.monotonic() >= deadline:
                answer(self._describe(one) | {"error": self._complaint(one)})
            else:
                self._waiting.append((one, deadline, answer))

    def _obey(self, order: dict[str, Any], answer: Answer) -> None:
        match order["order"]:
            case "reload":
                lines = self._reload()
                answer({"changed": lines is not None, "difference": lines or []})
            case "plan":
                plan = json.loads(self._plan().to_json())
                answer({"plan": plan, "path": self._path})
            case "quiesce":
                domains = self._domains(str(order["domain"]))
                timeout = min(float(order["timeout"]), ORDER_MOST_S)
                one = self._quiescence.begin(domains, commanded=True)
                self._waiting.append((one, time.monotonic() + timeout, answer))
            case "unquiesce":
                domains = self._domains(str(order["domain"]))
                found = self._quiescence.find(domains)
                if found is not None:
                    self._quiescence.end(found)
                names = ", ".join(sorted(map(str, domains)))
                answer({"domain": names, "stage": None, "waiting_for": []})
            case "fault-add" | "fault-list" | "fault-clear":
                answer({"faults": self._faults(order)})
            case _:
                raise ValueError

    def _faults(self, order: dict[str, Any]) -> list[dict[str, Any]]:
        """Do what is ordered; the faults it is about."""
        faults = self._dcc.faults
        if order["order"] == "fault-add":
            plan = self._plan()
            nodes = {node.name for node in plan.nodes if node.inside}
            fault = faults.make(order["fault"], nodes, plan.services)
            self._dcc.add_fault(fault)
            self._refault()
            return [describe_fault(self._dcc, fault)]
        found = faults.pick(order.get("id"))
        described = [describe_fault(self._dcc, fault) for fault in found]
        if order["order"] == "fault-clear" and found:
            for fault in found:
                self._dcc.remove_fault(fault)
            self._refault()
        return described

    def _domains(self, name: str) -> frozenset[Domain]:
        """What a user calls a domain. Raises `ControllerError`."""
        inside = {node.domain for node in self._plan().nodes if node.inside}
        named = frozenset(domain for domain in inside if name in _names(domain))
        hosts = {host for each in named if (host := self._platform.resolve(each)) is not None}
        if not named:
            known = ", ".join(sorted(map(str, inside)))
            raise ControllerError(f"the mapping has no domain {name}; it has: {known}")
        return named.union(*(domains_on(self._plan(), self._platform, host) for host in hosts))

    def _describe(self, one: Quiesced) -> dict[str, Any]:
        return describe(self._quiescence, one)

    def _complaint(self, one: Quiesced) -> str:
        holders = ", ".join(map(str, self._quiescence.holders(one)))
        return (
            f"{one} is not quiet yet, do not save it: {holders} still has to act (a program reads "
            "its messages whenever it waits for or sends on a socket); wait longer with "
            "--timeout, or give up with ivc unquiesce"
        )


def describe(quiescence: Quiescence, one: Quiesced) -> dict[str, Any]:
    """A quiesced domain as it is shown."""
    return {
        "domain": str(one),
        "stage": one.stage.value,
        "commanded": one.commanded,
        "waiting_for": list(map(str, quiescence.holders(one))),
    }


def _names(domain: Domain) -> set[str]:
    """As in a plan, and as the platform's own tools call it."""
    names = {str(domain)}
    if isinstance(domain, XenDomain):
        names |= {str(each) for each in (domain.name, domain.uuid, domain.id) if each is not None}
    if isinstance(domain, LocalHost) and domain.netns:
        names.add(domain.netns)
    return names
