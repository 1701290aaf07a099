# SPDX-License-Identifier: Apache-2.0
"""A wrapper in a domU, in Python: speaks docs/xen.md with a `Hypervisor` of fake_xen."""

import secrets
import struct
import time
from collections.abc import Callable

from fake_xen import FakeChannel, FakeDevices, Hypervisor, StoreClient
from fakewrapper import DEFAULT_FLAGS, PATIENCE_S, End, FakeWrapper, address

from ivc.controller.protocol import (
    FROM_CONTROLLER,
    MESSAGE_SIZE,
    NOWHERE,
    Message,
    Role,
    Type,
)
from ivc.shm.layout import (
    PAGE,
    RECEIVER_REGION_SIZE,
    RING_ABI_MAJOR,
    Ctrl,
    RegionState,
    fields,
    sender_region_size,
)
from ivc.shm.record import Ident, Record
from ivc.shm.region import Flow, receiver_page, sender_page
from ivc.shm.ring import Receiver, Sender

ORDER = 13
STATE = fields(Ctrl)["state"][0]


class XenEnd(End):
    """One end of a flow; its pages and channel besides."""

    def close(self) -> None:
        if self.ring is not None:
            self.ring.set_state(RegionState.CLOSED)
            self.ring.close()
        for each in self.pieces:
            each.close()


class XenWrapper(FakeWrapper):
    """One process in a guest. `friends`, `polite` and so on as in FakeWrapper."""

    def __init__(
        self,
        xen: Hypervisor,
        domid: int,
        *,
        announce: bool = True,
        spoil: Callable[[str], str] = lambda text: text,
    ) -> None:
        self.polite = self.reads = True
        self.keep_fds = False
        self.mail = []
        self.ends = {}
        self.bells = {}
        self.received = 0
        self.friends = []
        self.domid = domid
        self.words: dict[Type, tuple[int, ...]] = {}
        self.spoil_words: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda words: words
        self.store = StoreClient(xen, domid)
        self.devices = FakeDevices(xen, domid)
        self.channel = self.devices.listen(0)
        self.nonce = secrets.randbelow(0xFFFFFFFF) + 1
        self.name = f"{self.nonce:08x}"
        flow = Flow(0, self.nonce, ORDER)
        self.up_own = self.devices.share(0, 3, (STATE, self.channel.port))
        self.down_own = self.devices.share(0, 1)
        self.statistics_pages = self.devices.share(0, 4)
        self.up_own.buffer[:PAGE] = sender_page(flow)
        self.down_own.buffer[:PAGE] = receiver_page(flow)
        for pages in (self.up_own, self.down_own):
            pages.buffer[STATE] = RegionState.OPEN
        self.up = self.down = None
        if announce:
            refs = [*self.up_own.refs, *self.down_own.refs]
            numbers = " ".join(map(str, [1, self.channel.port, *refs, 77]))
            self.announcement = spoil(f"{numbers} an app")
            self.store.write(f"data/ivc/{self.name}", self.announcement.encode())

    def connect(self) -> None:
        """Wait for the answer, and say hello."""
        deadline = time.monotonic() + PATIENCE_S
        while (answer := self.store.read(f"ivc/answer/{self.name}")) is None:
            assert time.monotonic() < deadline, "no answer"
            time.sleep(0.005)
        version, *down, up = map(int, answer.split())
        assert version == 1
        ident = Ident(0, self.nonce, ORDER)
        self.down_peer = self.devices.map(0, down)
        self.up_peer = self.devices.map(0, [up])
        self.down = Receiver(self.down_own.buffer, self.down_peer.buffer, ident)
        self.up = Sender(self.up_own.buffer, self.up_peer.buffer, ident)
        self.store.remove(f"data/ivc/{self.name}")
        self.hello()
        self.await_message(Type.WELCOME)

    def hello(self) -> None:
        self.tell(Message(Type.HELLO, arg=RING_ABI_MAJOR, pid=77), self.statistics_pages.refs)

    def bind(
        self, number: int, local: str, peer: str | None = None, flags: int = DEFAULT_FLAGS
    ) -> None:
        whom = address(peer) if peer else NOWHERE
        self.tell(Message(Type.BOUND, number, local=address(local), peer=whom, flags=flags))

    def unbind_quietly(self, number: int) -> None:
        self.tell(Message(Type.UNBOUND, number))

    def tell(self, message: Message, words: tuple[int, ...] = ()) -> None:
        self.tell_raw(message.pack() + struct.pack(f"<{len(words)}I", *words))

    def tell_raw(self, packet: bytes, fds: object = None) -> None:
        assert self.up is not None
        self.up.write(Record(), packet)
        if self.up.publish():
            self.channel.ring()

    def read(self, timeout: float = 0.0) -> bool:
        assert self.down is not None
        time.sleep(timeout)
        taken = self.down.read()
        if taken is None:
            self.channel.consume()
            self.down.arm()
            if self.down.peer_state != RegionState.OPEN:
                raise ConnectionError("the controller hung up")
            return False
        self.received += 1
        words = struct.unpack(f"<{(len(taken[1]) - MESSAGE_SIZE) // 4}I", taken[1][MESSAGE_SIZE:])
        message = Message.parse(taken[1][:MESSAGE_SIZE], FROM_CONTROLLER)
        self.mail.append(message)
        self.words[message.type] = words
        self._take(message, words)
        return True

    def bell_of(self, end: End) -> FakeChannel:
        return end.bell  # a channel for each flow

    def kill(self) -> None:
        """As kill -9: what its kernel does then."""
        if self in self.friends:
            self.friends.remove(self)
        self.devices.die()

    def close(self) -> None:
        self.kill()
        self.store.close()

    def _take(self, message: Message, words: tuple[int, ...]) -> None:
        match message.type:
            case Type.ATTACH_TX | Type.ATTACH_RX if self.polite:
                self._attach_words(message, words)
            case Type.PEER if self.polite:
                self._peer_words(message, words)
            case Type.WELCOME:
                pass
            case Type.QUIESCE if self.polite:
                self.reads = False
                self.kill()
            case _:
                self._handle(message, [])

    def _attach_words(self, message: Message, words: tuple[int, ...]) -> None:
        role = Role.SENDER if message.type is Type.ATTACH_TX else Role.RECEIVER
        size = sender_region_size(message.arg) if role is Role.SENDER else RECEIVER_REGION_SIZE
        assert len(words) == 17
        pages = self.devices.share(words[0], size // PAGE)
        pages.buffer[:64] = struct.pack("<16I", *words[1:])
        end = XenEnd(role, message, pages)  # type: ignore[arg-type]
        end.pieces = [pages]
        answer = pages.refs
        if role is Role.RECEIVER:
            end.bell = self.devices.listen(words[0])
            end.pieces.append(end.bell)
            answer = (end.bell.port, *answer)
        self.ends[message.flow, role] = end
        mapped = Message(Type.MAPPED, flow=message.flow, flags=role)
        self.tell(mapped, self.spoil_words(answer))

    def _peer_words(self, message: Message, words: tuple[int, ...]) -> None:
        end = self.ends[message.flow, Role(message.flags)]
        domid, *rest = words
        if end.role is Role.SENDER:
            end.bell = self.devices.bind(domid, rest.pop(0))
            end.pieces.append(end.bell)
        peer = self.devices.map(domid, rest)
        end.pieces.append(peer)
        ident = Ident(message.flow, 0, end.attach.arg)
        kind = Sender if end.role is Role.SENDER else Receiver
        end.ring = kind(end.own.buffer, peer.buffer, ident)
        if isinstance(end.ring, Receiver):
            end.ring.arm()
            self.tell(Message(Type.ACK, flow=message.flow, flags=Role.RECEIVER))
