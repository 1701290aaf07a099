# SPDX-License-Identifier: Apache-2.0
"""The controller's service loop: load -> model -> plan -> apply; events in, commands out.

One thread, one selector. SIGHUP loads again and keeps the last good configuration if the new one
is bad; SIGTERM and SIGINT end it. Applying a plan is one act whether it is the first, a changed
one, or the same on hosts that have come or gone meanwhile.
"""

import json
import logging
import resource
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Final

from ivc import network
from ivc.controller.answers import Answer, AnswerServer
from ivc.controller.data_communication import DataCommunicationController
from ivc.controller.discovery import Tap
from ivc.controller.dispatch import Dispatcher
from ivc.controller.errors import Violation
from ivc.controller.event_handler import EventHandler
from ivc.controller.hosts import Hosts, locate
from ivc.controller.logs import READY
from ivc.controller.match_table import build_match_table
from ivc.controller.notify import notify
from ivc.controller.orders import Orders
from ivc.controller.quiesce import Quiescence
from ivc.controller.quota import Quota
from ivc.controller.registry import Process
from ivc.controller.run_dir import ORDERS, STATUS, TRACE, RunDir
from ivc.controller.status import build_status
from ivc.controller.tracing import Tracing
from ivc.errors import IvcError
from ivc.plan import Plan, build_plan
from ivc.plandiff import difference
from ivc.platform import Link, Platform, PlatformError
from ivc.platform.choose import platform_for
from ivc.platform.seqpacket import listen

log = logging.getLogger(__name__)
ready = logging.getLogger(READY)

TICK_S: Final = 1.0
"""How often hosts are looked up again and failures of a passing kind are retried."""

FLUSH_S: Final = 0.01
"""How often wrappers that are behind with reading their messages are offered the rest."""

PROCESSES_MAX: Final = 1024
"""Control connections from all hosts."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says. `path` overrides the mapping's default path."""

    config: Sequence[Path]
    mapping: Path
    run_dir: Path
    path: network.Path | None = None
    quota: Quota = field(default_factory=Quota)


def load_plan(settings: Settings) -> Plan:
    """Read the files and plan. Raises `ConfigError`, `PlanError`; warnings go to the log."""
    loaded = network.load(settings.config, settings.mapping)
    if loaded.findings:  # one message, so that none is left out
        log.warning("%s", "\n".join(map(str, loaded.findings)))
    return build_plan(loaded.network, loaded.mapping, settings.path)


class Service:
    """A running controller. Make it, `run` it, `close` it."""

    def __init__(self, settings: Settings, platform: Platform | None = None) -> None:
        """Take the run directory and apply the plan. Raises `IvcError`; nothing is left then."""
        self._settings = settings
        self._plan = load_plan(settings)
        self._platform = platform or platform_for(node.domain for node in self._plan.nodes)
        self._stopping = False
        self._behind: dict[Process, None] = {}
        self._next_tick = time.monotonic() + TICK_S
        self._run_dir = RunDir(settings.run_dir)
        self._selector = selectors.DefaultSelector()
        try:
            self._start()
        except BaseException:
            self._selector.close()
            self._platform.close()
            self._run_dir.close()
            raise

    def _start(self) -> None:
        self._platform.listen(self._run_dir.path)
        self._platform.refresh()
        hosts = locate(self._plan, self._platform)
        self._dcc = DataCommunicationController(self._plan, EventHandler(self._selector))
        self._dispatcher = Dispatcher(self._platform, self._dcc, hosts, self._settings.quota)
        self._quiescence = Quiescence(
            self._platform, self._dispatcher, self._look_around, self._hide
        )
        self._orders = Orders(
            self._platform,
            self._quiescence,
            lambda: self._plan,
            self.reload,
            self._settings.path,
            self._dcc,
            self._refault,
        )
        self._servers = [
            self._serve(STATUS, self._tell_status, asked=False),
            self._serve(ORDERS, self._orders.respond, asked=True),
        ]
        self._tracing = Tracing(
            self._selector,
            listen(self._run_dir.path / TRACE, socket.SOCK_SEQPACKET),
            self._platform,
            self._dispatcher.registry.processes,
            self._dcc,
            self._dispatcher.quotas,
        )
        self._dispatcher.welcomed = self._tracing.welcomed
        self._dispatcher.traced = self._tracing.answered
        self._selector.register(self._platform, selectors.EVENT_READ, self._accept)
        self._tap = self._listen_to_discovery()
        self._publish(hosts)

    def _listen_to_discovery(self) -> Tap | None:
        """None where there is no loopback: status says less then, and nothing else is missing."""
        try:
            tap = Tap(self._selector, self._dcc.discovery)
        except OSError as error:
            log.info("service discovery is not read: %s", error.strerror)
            return None
        self._dcc.tap = tap.endpoint
        return tap

    def _serve(
        self, name: str, respond: Callable[[bytes, Answer], None], *, asked: bool
    ) -> AnswerServer:
        listener = listen(self._run_dir.path / name, socket.SOCK_STREAM)
        return AnswerServer(self._selector, listener, respond, asked=asked)

    def _tell_status(self, _: bytes, answer: Answer) -> None:
        answer(build_status(self._dispatcher, self._dcc, self._quiescence))

    def run(self) -> None:
        """Serve until told to stop."""
        with _signals(self._selector, self._on_signal):
            ready.info("ready %s", self._summary())
            notify("READY=1")
            while not self._stopping:
                self.turn()
            notify("STOPPING=1")

    def turn(self) -> None:
        """Wait for something to happen (at most until the next tick), and handle it."""
        rest = max(0.0, self._next_tick - time.monotonic())
        if self._behind:
            rest = min(rest, FLUSH_S)
        unread = self._dispatcher.unread()
        for key, mask in self._selector.select(0 if unread else rest):
            # Something handled before it may have taken this one away.
            if self._selector.get_map().get(key.fd) is key:
                key.data(mask)
        for process in unread:
            self._hear(process)
        self._flush()
        if time.monotonic() >= self._next_tick:
            self._tick()
        self._quiescence.watch(self._plan)
        self._settle()
        self._quiescence.advance()
        self._orders.turn()
        self._tracing.turn()

    @property
    def stopping(self) -> bool:
        """Whether somebody asked it to stop."""
        return self._stopping

    def stop(self) -> None:
        """Leave `run` after this turn."""
        self._stopping = True

    def close(self) -> None:
        """Leave nothing behind. Processes go on without us: direct flows too."""
        for server in self._servers:
            server.close()
        if self._tap is not None:
            self._tap.close()
        self._tracing.close()
        if self._platform.fileno() in self._selector.get_map():  # not so out of descriptors
            self._selector.unregister(self._platform)
        # Relays first: what wrappers find unread afterwards they send by the kernel themselves.
        self._dispatcher.flows.close_relays()
        for process in list(self._dispatcher.registry.processes.values()):
            self._selector.unregister(process.link)
            process.link.close()
        for process in list(self._dispatcher.registry.processes.values()):
            self._dispatcher.disconnect(process)
        self._dcc.stop()
        self._platform.close()
        self._selector.close()
        self._run_dir.close()

    def reload(self) -> list[str] | None:
        """Read the files again and apply what is new, which is returned; None if nothing is.

        Raises `IvcError` or `OSError` if the new configuration is bad: nothing is changed then.
        """
        notify("RELOADING=1")
        try:
            plan = load_plan(self._settings)
            changed = self._apply_new(plan) if plan != self._plan else None
        except (IvcError, OSError) as error:
            log.error("the new configuration is bad, the last good one stays:\n%s", error)
            raise
        finally:
            notify("READY=1")
        log.info(
            "the plan has not changed" if changed is None else f"a new plan: {self._summary()}"
        )
        return changed

    def _refault(self) -> None:
        """Faults are others than before: what is planned of flows follows from them."""
        self._plan = replace(self._plan, faults=self._dcc.faults.rules)
        self._dcc.replan(self._plan)
        self._apply_if_there(self._locate())

    def _end_cuts(self) -> None:
        over = [fault for fault in self._dcc.faults.all.values() if fault.over]
        for fault in over:
            self._dcc.remove_fault(fault)
        if over:
            self._refault()

    def _apply_new(self, plan: Plan) -> list[str]:
        changed = difference(json.loads(self._plan.to_json()), json.loads(plan.to_json()))
        self._plan = replace(plan, faults=self._dcc.faults.rules)
        self._dcc.replan(self._plan)
        self._apply_if_there(self._locate())
        return changed

    def _apply(self, hosts: Hosts) -> None:
        self._publish(hosts)
        # Whom that cut off is gone first: nobody waits for a dead domain to let go of a flow.
        self._attend(self._dispatcher.attention())
        self._dispatcher.replan(hosts)

    def _publish(self, hosts: Hosts) -> None:
        domains = {node.id: node.domain for node in self._plan.nodes}
        missing = [
            f"{place.name} ({domains[place.id]})" for place in hosts.places if place.host is None
        ]
        if missing:  # in one message: of many, not all would be let through
            log.warning("nodes whose hosts do not exist (yet): %s", ", ".join(missing))
        there = {place.host for place in hosts.places if place.host is not None}
        there -= self._quiescence.hidden
        self._platform.publish(build_match_table(self._plan, hosts), there)

    def _hide(self) -> None:
        """A domain is quiet."""
        try:
            self._publish(self._dispatcher.registry.hosts)
        except PlatformError as error:  # it went meanwhile: the next look shows it
            log.warning("%s", error)

    def _locate(self) -> Hosts:
        return locate(self._plan, self._platform, self._quiescence.domains)

    def _tick(self) -> None:
        self._next_tick = time.monotonic() + TICK_S
        self._platform.refresh()
        self._look_around()
        self._end_cuts()
        self._dispatcher.wants.retry()
        if self._platform.fileno() not in self._selector.get_map():
            self._selector.register(self._platform, selectors.EVENT_READ, self._accept)
        self._accept(0)  # also those who were put off

    def _look_around(self) -> None:
        """Hosts may have come or gone."""
        hosts = self._locate()
        if hosts != self._dispatcher.registry.hosts:
            self._apply_if_there(hosts)

    def _apply_if_there(self, hosts: Hosts) -> None:
        try:
            self._apply(hosts)
        except PlatformError as error:  # a host that went meanwhile: the next look shows it
            log.warning("the hosts are looked at again: %s", error)

    def _settle(self) -> None:
        while attention := self._dispatcher.settle():
            self._attend(attention)

    def _attend(self, attention: Iterable[Process]) -> None:
        for process in attention:
            if process.link.broken is None:
                self._behind[process] = None
            else:
                log.warning("%s is disconnected: %s", process, process.link.broken)
                process.expelled = True
                self._disconnect(process)

    def _flush(self) -> None:
        for process in list(self._behind):
            process.link.flush()
            if not process.link.wants_write:
                del self._behind[process]

    def _accept(self, _: int) -> None:
        try:
            while self._accept_one():
                pass
        except OSError as error:
            # Out of descriptors: it would be readable for ever. The next tick tries again.
            log.error("no new processes for now: %s", error.strerror)
            self._selector.unregister(self._platform)
        self._look_around()

    def _accept_one(self) -> bool:
        """False: nobody else has come. Raises `OSError`."""
        try:
            link = self._platform.accept()
        except PlatformError as error:
            log.warning("a process is turned away: %s", error)
            return True
        if link is not None:
            self._connected(link)
        return link is not None

    def _connected(self, link: Link) -> None:
        try:
            if len(self._dispatcher.registry.processes) >= PROCESSES_MAX:
                raise Violation(f"there are {PROCESSES_MAX} processes already")
            process = self._dispatcher.connected(link)
        except Violation as violation:
            log.warning("a process is turned away: %s", violation)
            link.close()
            return
        log.debug("%s has connected", process)
        self._selector.register(link, selectors.EVENT_READ, lambda _: self._hear(process))

    def _hear(self, process: Process) -> None:
        if process.id in self._dispatcher.registry.processes:
            if not self._dispatcher.readable(process):
                self._disconnect(process)
            self._settle()

    def _disconnect(self, process: Process) -> None:
        log.debug("%s has gone", process)
        self._behind.pop(process, None)
        self._selector.unregister(process.link)
        self._tracing.left(process)
        self._dispatcher.disconnect(process)

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            with suppress(IvcError, OSError):  # it has said why
                self.reload()
        else:
            self.stop()

    def _summary(self) -> str:
        inside = sum(node.inside for node in self._plan.nodes)
        return f"({inside} nodes, path {self._plan.path.value}, {self._run_dir.path})"


@contextmanager
def _signals(selector: selectors.BaseSelector, handle: Callable[[int], None]) -> Iterator[None]:
    """Deliver SIGHUP, SIGINT and SIGTERM as events of the loop, not in the middle of its work."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)

    def arrived(_: int) -> None:
        with suppress(BlockingIOError):
            for number in reader.recv(64):
                handle(number)

    def ignore(_number: int, _frame: FrameType | None) -> None:
        pass  # the wake-up descriptor has it

    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, ignore) for number in numbers}
    previous = signal.set_wakeup_fd(writer.fileno())
    selector.register(reader, selectors.EVENT_READ, arrived)
    try:
        yield
    finally:
        selector.unregister(reader)
        signal.set_wakeup_fd(previous)
        for number, handler in before.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()


def raise_descriptor_limit() -> None:
    """Each socket of each process costs a descriptor: take all that the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
