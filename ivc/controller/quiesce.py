# SPDX-License-Identifier: Apache-2.0
"""Domains that are to be saved: they hold nothing of anybody's then, nobody anything of theirs.

    DEMOTING  flows that begin or end there are closed; all who were told shall let go of them
    LEAVING   its processes shall leave (on Xen they map pages of ours)
    QUIET     it may be saved

Its sockets and their peers' are on the network meanwhile, for the reason QUIESCED. A command ends
what a command has begun. What the platform has asked for, because somebody is about to save the
domain, ends with the domain, or when its kernel must have gone to sleep or given up.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ivc.controller.dispatch import Dispatcher
from ivc.controller.protocol import Message, Type
from ivc.controller.registry import Process
from ivc.network import Domain
from ivc.plan import Plan
from ivc.platform import Platform, PlatformError

log = logging.getLogger(__name__)

ASLEEP_S: Final = 30.0
"""When a kernel that was told to suspend has done so, or will not: Linux gives its processes 20 s
to stop (Documentation/admin-guide/pm, pm_freeze_timeout). To serve a suspended domain is harmless.
"""


class Stage(StrEnum):
    """How far it is."""

    DEMOTING = "demoting"
    LEAVING = "leaving"
    QUIET = "quiet"


@dataclass(slots=True, eq=False)
class Quiesced:
    """A domain under all names the plan has for it, and the host it was on when it began."""

    domains: frozenset[Domain]
    host: int | None
    commanded: bool
    stage: Stage = Stage.DEMOTING
    since: float = 0.0

    def __str__(self) -> str:
        return ", ".join(sorted(map(str, self.domains)))


class Quiescence:
    """All quiesced domains. Who changes them plans again (`replan`) or hides them (`publish`)."""

    def __init__(
        self,
        platform: Platform,
        dispatcher: Dispatcher,
        replan: Callable[[], None],
        publish: Callable[[], None],
    ) -> None:
        self._platform = platform
        self._dispatcher = dispatcher
        self._replan = replan
        self._publish = publish
        self._all: list[Quiesced] = []

    def __iter__(self) -> Iterator[Quiesced]:
        return iter(self._all)

    @property
    def domains(self) -> frozenset[Domain]:
        """All of them; they have no rings."""
        return frozenset(domain for one in self._all for domain in one.domains)

    @property
    def hidden(self) -> set[int]:
        """Hosts that shall not find us."""
        quiet = (one for one in self._all if one.stage is Stage.QUIET)
        return {host for one in quiet if (host := self._host(one)) is not None}

    def begin(self, domains: frozenset[Domain], commanded: bool) -> Quiesced:
        """Quiesce a domain, or go on with it."""
        one = self.find(domains)
        if one is None:
            one = Quiesced(domains, None, commanded)
            one.host = self._host(one)
            self._all.append(one)
            log.info("%s is being quiesced", one)
            self._replan()
        one.commanded |= commanded
        return one

    def end(self, one: Quiesced) -> None:
        """Serve it again."""
        self._all.remove(one)
        log.info("%s is quiesced no more", one)
        self._replan()

    def find(self, domains: frozenset[Domain]) -> Quiesced | None:
        """A quiesced domain by any of its names."""
        return next((one for one in self._all if one.domains & domains), None)

    def holders(self, one: Quiesced) -> list[Process]:
        """The processes that have to do something before it can go on."""
        if one.host is None or one.stage is Stage.QUIET:
            return []
        if one.stage is Stage.DEMOTING:
            return self._dispatcher.holding(one.host)
        return self._dispatcher.registry.on(one.host)

    def watch(self, plan: Plan) -> None:
        """Begin with what somebody is about to save, end with what nobody saves any more."""
        suspending = self._platform.suspending()
        for host in suspending:
            if all(one.host != host for one in self._all):
                self.begin(domains_on(plan, self._platform, host), commanded=False)
        for one in list(self._all):
            if not one.commanded and self._is_over(one, one.host in suspending):
                self.end(one)

    def advance(self) -> None:
        """Go on with every domain as far as it lets us; all flows have been settled."""
        for one in self._all:
            if one.stage is Stage.DEMOTING and not self.holders(one):
                must_leave = one.host is not None and self._dismiss(one.host)
                one.stage = Stage.LEAVING if must_leave else Stage.QUIET
            elif one.stage is Stage.LEAVING and not self.holders(one):
                one.stage = Stage.QUIET
            else:
                continue
            if one.stage is Stage.QUIET:
                one.since = time.monotonic()
                log.info("%s is quiet", one)
                self._publish()

    def _dismiss(self, host: int) -> bool:
        """Tell the processes of a host to leave, if they have to."""
        try:
            if not self._platform.quiesce(host):
                return False
        except PlatformError as error:  # it is gone, and its processes will be
            log.warning("%s", error)
        for process in self._dispatcher.registry.on(host):
            process.send(Message(Type.QUIESCE))
        return True

    def _is_over(self, one: Quiesced, suspending: bool) -> bool:
        if self._host(one) != one.host:
            return True  # saved, or dead
        if one.stage is Stage.QUIET:
            return time.monotonic() - one.since > ASLEEP_S
        return not suspending  # called off

    def _host(self, one: Quiesced) -> int | None:
        hosts = map(self._platform.resolve, one.domains)
        return next((host for host in hosts if host is not None), None)


def domains_on(plan: Plan, platform: Platform, host: int | None) -> frozenset[Domain]:
    """Every name the plan has for what is on a host."""
    inside = (node.domain for node in plan.nodes if node.inside)
    return frozenset(domain for domain in inside if platform.resolve(domain) == host)
