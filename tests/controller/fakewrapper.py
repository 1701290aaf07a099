# SPDX-License-Identifier: Apache-2.0
"""A wrapper in Python: speaks core/protocol.h over the real socket, with real memory and rings.

It answers attach requests by itself (`polite`), so that a test reads as what applications do.
Also a program, see `main`: `python fakewrapper.py RUN_DIR ADDRESS`.
"""

import array
import mmap
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fake_xen import FakeChannel

from ivc.controller.protocol import (
    FROM_CONTROLLER,
    MESSAGE_SIZE,
    NOWHERE,
    Address,
    Message,
    Role,
    SocketFlag,
    Type,
)
from ivc.reasons import Reason
from ivc.shm.bell import Bell
from ivc.shm.layout import (
    RECEIVER_REGION_SIZE,
    RING_ABI_MAJOR,
    STATS_SIZE,
    RegionState,
    sender_region_size,
)
from ivc.shm.record import Ident, Record
from ivc.shm.ring import Receiver, Sender

PATIENCE_S = 5.0
DEFAULT_FLAGS = SocketFlag.MC_ALL | SocketFlag.MC_LOOP


def address(text: str) -> Address:
    """ "10.0.0.1:30509" as plain numbers."""
    ip, _, port = text.partition(":")
    return Address(int.from_bytes(socket.inet_aton(ip), "big"), int(port))


@dataclass
class End:
    """One end of a flow as a wrapper holds it."""

    role: Role
    attach: Message
    own: mmap.mmap
    bell: Bell | None = None
    peer: mmap.mmap | None = None
    ring: Sender | Receiver | None = None
    active: bool = False

    def close(self) -> None:
        if self.ring is not None:
            self.ring.set_state(RegionState.CLOSED)
            self.ring.close()
        self.own.close()
        if self.peer is not None:
            self.peer.close()
        if self.bell is not None:
            self.bell.close()


@dataclass
class Mail:
    """A message and its descriptors."""

    message: Message
    fds: list[int] = field(default_factory=list)


class FakeWrapper:
    """One process's connection with the controller."""

    def __init__(self, run_dir: Path, *, polite: bool = True, hello: bool = True) -> None:
        self.polite = polite
        self.reads = True
        self.spoil: Callable[[int], object] = lambda fd: None
        self.keep_fds = False
        self.kept: dict[Type, list[int]] = {}
        self.mail: list[Message] = []
        self.ends: dict[tuple[int, Role], End] = {}
        self.bells: dict[int, Bell] = {}
        self.received = 0
        self.friends: list[FakeWrapper] = []
        self.control: mmap.mmap | None = None
        self.statistics: mmap.mmap | None = None
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.connect(str(run_dir / "control"))
        if hello:
            self.tell(Message(Type.HELLO, arg=RING_ABI_MAJOR, pid=os.getpid()))
            self.await_message(Type.WELCOME)

    # ---- what an application does

    def bind(
        self,
        number: int,
        local: str,
        peer: str | None = None,
        flags: int = DEFAULT_FLAGS,
    ) -> None:
        new = number not in self.bells
        if new:
            self.bells[number] = Bell()
        self.tell(
            Message(
                Type.BOUND,
                number,
                local=address(local),
                peer=address(peer) if peer else NOWHERE,
                flags=flags,
            ),
            [self.bells[number].fileno()] if new else [],
        )

    def unbind(self, number: int) -> None:
        self.tell(Message(Type.UNBOUND, number))
        self.bells.pop(number).close()

    def join(self, number: int, group: str) -> None:
        self.tell(Message(Type.JOIN, number, local=address(f"{group}:0")))

    def leave(self, number: int, group: str) -> None:
        self.tell(Message(Type.LEAVE, number, local=address(f"{group}:0")))

    def want(self, number: int, source: str, destination: str) -> None:
        self.tell(Message(Type.WANT, number, local=address(source), peer=address(destination)))

    def send(self, destination: str, payload: bytes, flags: int = 0) -> int:
        """Write to every active flow for a destination; how many there were."""
        flows = self.active(destination)
        for end in flows:
            assert isinstance(end.ring, Sender) and end.bell is not None
            local, peer = end.attach.local, end.attach.peer
            record = Record(local.ip, local.port, peer.ip, peer.port, flags=flags, kseq=7)
            end.ring.write(record, payload)
            if end.ring.publish():
                end.bell.ring()
        return len(flows)

    def receive(self, number: int) -> tuple[Record, bytes]:
        """The next datagram of a socket, by any of its flows."""
        found: list[tuple[Record, bytes]] = []

        def look() -> bool:
            found.extend(filter(None, [self.take(number)]))
            return bool(found)

        self.until(look, f"a datagram on socket {number}")
        return found[0]

    def has(self, number: int) -> bool:
        """Whether there is a datagram for a socket; it is gone then."""
        return self.take(number) is not None

    def take(self, number: int) -> tuple[Record, bytes] | None:
        """The next datagram of a socket that has arrived. No message is read."""
        for end in self.ends.values():
            if isinstance(end.ring, Receiver) and end.attach.socket == number:
                self.bell_of(end).consume()
                taken = end.ring.read()
                if taken is not None:
                    return taken
                end.ring.arm()
        return None

    def bell_of(self, end: End) -> Bell | FakeChannel:
        """What a receiving end is woken by: here one bell for all flows of a socket."""
        return self.bells[end.attach.socket]

    def active(self, destination: str) -> list[End]:
        """Active sending ends for a destination."""
        return [
            end
            for end in self.ends.values()
            if end.role is Role.SENDER and end.active and end.attach.peer == address(destination)
        ]

    def await_active(self, destination: str, count: int = 1) -> None:
        """Wait until exactly `count` flows to a destination are active."""
        self.until(lambda: len(self.active(destination)) == count, f"{count} flows {destination}")

    # ---- mail

    def tell(self, message: Message, fds: list[int] | None = None) -> None:
        self.tell_raw(message.pack(), fds)

    def tell_raw(self, packet: bytes, fds: list[int] | None = None) -> None:
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.settimeout(PATIENCE_S)
        self.sock.sendmsg([packet], control)

    def read(self, timeout: float = 0.0) -> bool:
        """Take one message; False if there is none. Raises ConnectionError at the end."""
        self.sock.settimeout(timeout or 1e-6)
        try:
            packet, fds, _, _ = socket.recv_fds(self.sock, MESSAGE_SIZE, 4)
        except TimeoutError:
            return False
        if not packet:
            raise ConnectionError("the controller hung up")
        self.received += 1
        message = Message.parse(packet, FROM_CONTROLLER)
        self.mail.append(message)
        self._handle(message, list(fds))
        return True

    def until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            late = time.monotonic() > deadline  # before the last look: we may have been held up
            for friend in self.friends or [self]:
                while friend.reads and friend.read():
                    pass
            if late and not done():
                raise AssertionError(f"waited in vain for {what}; mail: {self.mail}")
            time.sleep(0.001)

    def await_message(
        self, kind: Type, matching: Callable[[Message], bool] = lambda message: True
    ) -> Message:
        """The next message of a kind; what came before it is forgotten.

        All wrappers of the lab read their mail meanwhile.
        """
        found: list[Message] = []

        def look() -> bool:
            while self.mail:
                message = self.mail.pop(0)
                if message.type is kind and matching(message):
                    found.append(message)
                    return True
            return False

        self.until(look, kind.name)
        return found[0]

    def await_route(self, destination: str, reason: Reason, *, complete: bool = False) -> None:
        """Wait for ROUTE with exactly this answer."""
        self.await_message(
            Type.ROUTE,
            lambda m: (m.peer, m.reason, m.flags) == (address(destination), reason, int(complete)),
        )

    def await_hangup(self) -> None:
        """Wait until the controller has thrown us out."""
        deadline = time.monotonic() + PATIENCE_S
        try:
            while time.monotonic() < deadline:
                self.read(0.01)
        except ConnectionError:
            return
        raise AssertionError("the controller keeps us")

    def sent_word(self) -> int:
        """How many messages the control page says there are."""
        assert self.control is not None
        return int.from_bytes(self.control[:8], "little")

    def _handle(self, message: Message, fds: list[int]) -> None:
        kept: set[int] = set()
        if self.keep_fds:
            self.kept.setdefault(message.type, []).extend(map(os.dup, fds))
        match message.type:
            case Type.WELCOME:
                self.control = mmap.mmap(fds[0], mmap.PAGESIZE, prot=mmap.PROT_READ)
                self.statistics = mmap.mmap(fds[1], STATS_SIZE)
            case Type.ATTACH_TX | Type.ATTACH_RX if self.polite:
                self._attach(message, fds[0])
            case Type.PEER if self.polite:
                kept = self._peer(message, fds)
            case Type.ACTIVE if self.polite:
                self.ends[message.flow, Role.SENDER].active = True
            case Type.CLOSE if self.polite:
                end = self.ends.pop((message.flow, Role(message.flags)), None)
                if end is not None:
                    end.close()
                    self.tell(Message(Type.DROPPED, flow=message.flow, flags=message.flags))
        for fd in fds:
            if fd not in kept:
                os.close(fd)

    def _attach(self, message: Message, fd: int) -> None:
        role = Role.SENDER if message.type is Type.ATTACH_TX else Role.RECEIVER
        size = sender_region_size(message.arg) if role is Role.SENDER else RECEIVER_REGION_SIZE
        self.ends[message.flow, role] = End(role, message, mmap.mmap(fd, size))
        self.spoil(fd)
        self.tell(Message(Type.MAPPED, flow=message.flow, flags=role))

    def _peer(self, message: Message, fds: list[int]) -> set[int]:
        """Returns the descriptors it keeps."""
        end = self.ends[message.flow, Role(message.flags)]
        if end.role is Role.SENDER:
            end.bell = Bell(fds[1])
        order = end.attach.arg
        sender = end.role is Role.SENDER
        size = RECEIVER_REGION_SIZE if sender else sender_region_size(order)
        end.peer = mmap.mmap(fds[0], size, prot=mmap.PROT_READ)
        ident = Ident(message.flow, 0, order)
        end.ring = (Sender if sender else Receiver)(end.own, end.peer, ident)
        end.ring.set_state(RegionState.OPEN)
        if isinstance(end.ring, Receiver):
            end.ring.arm()
            self.tell(Message(Type.ACK, flow=message.flow, flags=Role.RECEIVER))
        return set(fds[1:])

    def close(self) -> None:
        """As a process ends: nothing is said, everything is gone."""
        self.sock.close()
        if self in self.friends:
            self.friends.remove(self)
        for end in self.ends.values():
            end.close()
        self.ends.clear()
        for bell in self.bells.values():
            bell.close()
        self.bells.clear()
        for fds in self.kept.values():
            for fd in fds:
                os.close(fd)
        self.kept.clear()
        for page in (self.control, self.statistics):
            if page is not None:
                page.close()


def main() -> None:
    """Connect, say which node we are, claim an address, and say how that ended."""
    wrapper = FakeWrapper(Path(sys.argv[1]), hello=False)
    wrapper.tell(Message(Type.HELLO, arg=RING_ABI_MAJOR))
    print("node", wrapper.await_message(Type.WELCOME).node, flush=True)
    wrapper.bind(1, sys.argv[2])
    try:
        wrapper.want(1, sys.argv[2], "10.9.9.9:1")
        wrapper.await_message(Type.ROUTE)
        print("kept")
    except OSError:
        print("thrown out")


if __name__ == "__main__":
    main()
