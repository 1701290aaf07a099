# SPDX-License-Identifier: Apache-2.0
"""Messages of wrappers, one method each: check who may say it, change the state, settle.

Whatever raises `Violation` or `PlatformError` costs the process its connection, and nobody else
anything.
"""

import logging
from collections.abc import Callable
from typing import Final

from ivc.controller.data_communication import DataCommunicationController
from ivc.controller.errors import Violation
from ivc.controller.flows import Flow, FlowTable
from ivc.controller.hosts import Hosts
from ivc.controller.protocol import FROM_WRAPPER, Address, Message, Role, Type
from ivc.controller.quota import Quota, Quotas
from ivc.controller.registry import Process, Registry, Socket
from ivc.controller.streams import Streams
from ivc.controller.wants import Wants
from ivc.platform import NOTHING, Attachment, Hangup, Link, Platform, PlatformError
from ivc.reasons import Reason
from ivc.shm import layout

log = logging.getLogger(__name__)

BATCH: Final = 64
"""Messages taken from one process before others get their turn."""


class Dispatcher:
    """Everything the controller knows and does about wrappers."""

    def __init__(
        self, platform: Platform, dcc: DataCommunicationController, hosts: Hosts, quota: Quota
    ) -> None:
        self._platform = platform
        self._attention: dict[Process, None] = {}
        self._unread: dict[Process, None] = {}
        self.registry = Registry(hosts)
        self.quotas = Quotas(self.registry, quota, platform.pages)
        self.wants = Wants(self.registry, dcc, self.quotas)
        self.streams = Streams(self.registry, dcc)
        self.flows = FlowTable(platform, dcc, self._flow_changed, self.quotas)
        self.welcomed: Callable[[Process], None] = lambda process: None
        self.traced: Callable[[Process, int, Attachment], None] = lambda *_: None

    def connected(self, link: Link) -> Process:
        """Somebody connected. Raises `Violation`; the link is still the caller's then."""
        process = self.registry.add(link)
        link.notice = lambda: self._attention.update({process: None})
        return process

    def readable(self, process: Process) -> bool:
        """Handle what a process has sent, in part if it is much. False: it must be disconnected."""
        try:
            for _ in range(BATCH):
                received = process.link.receive()
                if received is None:
                    break
                self._handle(process, *received)
            else:
                self._unread[process] = None
        except Hangup:
            return False
        except (Violation, PlatformError) as violation:
            log.warning("%s is disconnected: %s", process, violation)
            process.expelled = True
            return False
        return True

    def unread(self) -> list[Process]:
        """Processes handled in part since asked last: no descriptor need say that there is more."""
        unread, self._unread = list(self._unread), {}
        return [process for process in unread if process.id in self.registry.processes]

    def disconnect(self, process: Process) -> None:
        """A process is gone, or has to go: take back all it had. Idempotent."""
        for socket in list(process.sockets.values()):
            self._unbind(socket)
        self.registry.remove(process)

    def settle(self) -> list[Process]:
        """Bring every flow to where it should be.

        Returns what `attention` does.
        """
        self.streams.settle(self.flows)
        self.wants.settle(self.flows)
        return self.attention()

    def attention(self) -> list[Process]:
        """Processes whose connection broke or has messages queued since asked last."""
        attention, self._attention = list(self._attention), {}
        return [process for process in attention if process.id in self.registry.processes]

    def replan(self, hosts: Hosts) -> None:
        """Nodes or rules have changed: look at everything again, tell everybody."""
        self.registry.relocate(hosts)
        self.wants.touch(lambda want: True)
        self.streams.touch_all()
        for process in self.registry.processes.values():
            process.send(Message(Type.TABLE))

    def holding(self, host: int) -> list[Process]:
        """Processes that have not let go yet of every flow that begins or ends on a host."""
        open_ends = {
            flow.spec.end(role).process
            for flow in self.flows.flows.values()
            if host in flow.hosts
            for role in ([Role.SENDER] if flow.ended else Role)  # a receiver is told afterwards
        }
        return [
            process
            for process in self.registry.processes.values()
            if process in open_ends or any(host in hosts for hosts in process.leaving.values())
        ]

    def _handle(self, process: Process, packet: bytes, attachment: Attachment) -> None:
        rest = attachment
        try:
            message = Message.parse(packet, FROM_WRAPPER)
            if (message.type is Type.HELLO) == (process.link.statistics is not None):
                raise Violation(f"{message.type.name} out of turn")
            if message.type is Type.BOUND and message.socket not in process.sockets:
                self._bound_anew(process, message, attachment)
                rest = NOTHING  # the registry's now
            else:
                self._simple(process, message, attachment)
        finally:
            rest.close()

    def _simple(self, process: Process, message: Message, attachment: Attachment) -> None:
        match message.type:
            case Type.HELLO:
                self._hello(process, message, attachment)
            case Type.MAPPED:
                self.flows.mapped(process, message.flow, _role(message.flags), attachment)
            case Type.ACK:
                self.flows.acknowledged(process, message.flow)
            case Type.DROPPED:
                self._dropped(process, message)
            case Type.TRACED:
                self.traced(process, message.flow, attachment)
            case _:
                socket = process.sockets.get(message.socket)
                if socket is not None:  # else: it has just ended, or has not begun
                    self._of_socket(socket, message)

    def _of_socket(self, socket: Socket, message: Message) -> None:
        match message.type:
            case Type.BOUND:
                self._bind(socket.process, message, socket.local.port, socket.doorbell)
            case Type.UNBOUND:
                self._unbind(socket)
            case Type.JOIN:
                self.registry.join(socket, message.local.ip)
                self.wants.joined(socket, message.local.ip)
                self._membership(message.local.ip)
            case Type.LEAVE:
                socket.groups.discard(message.local.ip)
                self._membership(message.local.ip)
            case Type.WANT:
                self._want(socket, message.local, message.peer)

    def _hello(self, process: Process, message: Message, attachment: Attachment) -> None:
        if message.arg != layout.RING_ABI_MAJOR:
            raise Violation(f"speaks ring ABI {message.arg}, not {layout.RING_ABI_MAJOR}")
        here = self.registry.hosts.on(process.identity.host)
        welcome = Message(Type.WELCOME, node=here[0].id if len(here) == 1 else 0)
        process.link.welcome(attachment, welcome.pack())
        self.welcomed(process)

    def _bound_anew(self, process: Process, message: Message, attachment: Attachment) -> None:
        self._platform.check_doorbell(attachment)
        self._bind(process, message, message.local.port, attachment)

    def _bind(self, process: Process, message: Message, before: int, bell: Attachment) -> None:
        socket = self.registry.bind(
            process, message.socket, message.local, message.peer, message.flags, bell
        )
        if socket.is_stream:
            self.streams.bound(socket)
        else:
            self.wants.socket_changed(socket, (before, message.local.port))

    def _flow_changed(self, flow: Flow, reason: Reason) -> None:
        if flow.spec.stream:
            self.streams.flow_changed(flow, reason)
        else:
            self.wants.flow_changed(flow, reason)

    def _unbind(self, socket: Socket) -> None:
        self.flows.close_socket(socket)
        self.wants.remove(socket)
        self.streams.unbound(socket)
        self.registry.unbind(socket)
        self.wants.socket_changed(socket, (socket.local.port,))

    def _membership(self, group: int) -> None:
        self.wants.touch(lambda want: want.destination.ip == group)

    def _want(self, socket: Socket, source: Address, destination: Address) -> None:
        own = socket.local
        if own.ip == 0 or own.is_multicast:
            # The kernel fills in an address of the host: there it is the node's.
            own = Address(socket.place.ip if socket.place is not None else 0, own.port)
        if source.port != own.port or source.ip not in (0, own.ip, socket.local.ip):
            raise Violation(f"sends as {source} on a socket bound to {socket.local}")
        self.wants.add(socket, own, destination)

    def _dropped(self, process: Process, message: Message) -> None:
        try:
            reason = Reason(message.reason)
        except ValueError as error:
            raise Violation(f"reason {message.reason} does not exist") from error
        role = _role(message.flags) if message.flags else None
        flow = self.flows.dropped(process, message.flow, role, reason)
        if flow is not None and not flow.spec.stream:
            self.wants.bar(flow, reason)


def _role(flags: int) -> Role:
    try:
        return Role(flags)
    except ValueError as error:
        raise Violation(f"{flags} is no end of a flow") from error
