# SPDX-License-Identifier: Apache-2.0
"""What the controller asks of the machine it runs on, behind one `Platform`.

`ivc.platform.linux` answers with memfds, eventfds and network namespaces; on Xen the same verbs
are grants, event channels and domain ids.

A host is a number (Linux: inode of a network namespace; Xen: domain id). Where a host is asked
for, None stands for the controller itself.
"""

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ivc.errors import IvcError
from ivc.network import Domain
from ivc.shm.bell import Doorbell
from ivc.shm.gauge import Window
from ivc.shm.layout import RECEIVER_REGION_SIZE, Role, sender_region_size
from ivc.shm.record import Buffer
from ivc.shm.region import Flow, receiver_page, sender_page


class PlatformError(IvcError):
    """The machine refused; out of memory or descriptors, or something is not what it claims."""


class MissingInterface(PlatformError):
    """The machine lacks what this platform stands on; the message says how to get it."""

    exit_code = 69


class Hangup(Exception):
    """The process at the other end of a link is gone."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """What travels with a control message: descriptors (Linux) or 32-bit numbers (Xen).

    core/protocol.h says which with which message. Descriptors that are sent stay their maker's;
    those received are the receiver's, who closes them.
    """

    fds: tuple[int, ...] = ()
    words: tuple[int, ...] = ()

    def duplicate(self) -> "Attachment":
        """One that outlives this one. Raises `OSError`; nothing is left then."""
        copies: list[int] = []
        try:
            copies.extend(os.dup(fd) for fd in self.fds)
        except OSError:
            Attachment(tuple(copies)).close()
            raise
        return Attachment(tuple(copies), self.words)

    def close(self) -> None:
        """Close the descriptors, whatever they are. Only once."""
        for fd in self.fds:
            with suppress(OSError):
                os.close(fd)


NOTHING: Final = Attachment()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is at the other end of a control connection, as the kernel says.

    `host` compares with what `Platform.resolve` returns; `pid` is as seen by the controller on
    Linux, and what the guest says on Xen.
    """

    pid: int
    host: int
    command: str


@dataclass(frozen=True, slots=True)
class RegionSpec:
    """One of the two regions of a ring: `owner` writes it, `peer` reads it.

    `bell` is what came with the BOUND of the receiving socket; only a receiver's region that a
    process owns needs it.
    """

    flow: Flow
    role: Role
    owner: int | None
    peer: int | None
    bell: Attachment = NOTHING

    @property
    def size(self) -> int:
        """Bytes."""
        if self.role is Role.SENDER:
            return sender_region_size(self.flow.order)
        return RECEIVER_REGION_SIZE

    @property
    def head(self) -> bytes:
        """Its first page as it has to be before anybody uses it."""
        return sender_page(self.flow) if self.role is Role.SENDER else receiver_page(self.flow)


class Region(Protocol):
    """Shared memory with exactly one owner who may write it, and one peer who may read it.

    A receiver's region comes with the doorbell its owner hears.
    """

    def for_owner(self) -> Attachment:
        """What ATTACH brings to the owner."""

    def mapped(self, attachment: Attachment) -> None:
        """MAPPED came from the owner, with this: nobody else can write it from now on.

        Raises `PlatformError` if the owner has spoilt it.
        """

    def for_peer(self) -> Attachment:
        """What PEER brings to the peer; after `mapped`. Raises `PlatformError`."""

    def map(self) -> Buffer:
        """The controller's own view, if it is one of the two: writable if it is the owner.

        It goes with the region. Raises `PlatformError`.
        """

    def bell(self) -> Doorbell:
        """The controller's own end of the doorbell: to hear if it owns the region, else to ring.

        It goes with the region. Raises `PlatformError`.
        """

    def window(self) -> Window | None:
        """A look at its first page, which does not go with the region; None if we may not look."""

    def close(self) -> None:
        """Let go of everything of ours; what others have mapped they keep. Idempotent."""


class TraceMemory(Protocol):
    """A trace ring (core/trace.h): a process writes, whoever traces it reads."""

    size: int
    """Bytes of the writer's region."""

    awaited: bool
    """Whether the process has to make its part of it: it says TRACED then."""

    def for_writer(self) -> Attachment:
        """What TRACE brings to the process."""

    def traced(self, attachment: Attachment) -> None:
        """TRACED came with this, if it is `awaited`. Raises `PlatformError` if that is nothing."""

    def for_reader(self) -> Attachment:
        """Descriptors the reader maps: the writer's region, read-only, and its own, a page.

        They go with this. Raises `PlatformError`.
        """

    def map(self) -> tuple[Buffer, Buffer]:
        """For a writer within the controller: the writer's region, and the reader's.

        They go with this. Raises `PlatformError`.
        """

    def close(self) -> None:
        """Let go of everything of ours; what others have mapped they keep. Idempotent."""


class Link(Protocol):
    """The control connection with one process."""

    broken: str | None
    """Why nothing can be sent any more."""

    notice: Callable[[], None]
    """Called when it breaks, and when what is sent begins to queue."""

    @property
    def identity(self) -> Identity:
        """Who is at the other end."""

    @property
    def statistics(self) -> Buffer | None:
        """The process's statistics page; None before it was welcomed. Its content is a claim."""

    @property
    def wants_write(self) -> bool:
        """Whether something is queued: `flush` it, now and then."""

    def fileno(self) -> int:
        """Readable when `receive` has something to say."""

    def receive(self) -> tuple[bytes, Attachment] | None:
        """The next message and what came with it; None if there is none.

        Only after None does the descriptor tell of the next one.

        Raises `Hangup` at the end, `PlatformError` for what no message can be.
        """

    def send(self, packet: bytes, attachment: Attachment = NOTHING) -> None:
        """Send, or queue. Never blocks, never fails: see `broken`."""

    def flush(self) -> None:
        """Send what is queued, as far as it is taken."""

    def welcome(self, hello: Attachment, packet: bytes) -> None:
        """HELLO came with `hello`: send `packet`, a WELCOME, and what belongs to it.

        Raises `PlatformError`.
        """

    def close(self) -> None:
        """Give everything back. Idempotent."""


class Platform(Protocol):
    """The verbs."""

    @property
    def pages(self) -> int | None:
        """How many our own domain may grant; None: memory is not granted page by page."""

    def listen(self, run_dir: Path) -> None:
        """Be found by wrappers from now on. Raises `PlatformError`."""

    def fileno(self) -> int:
        """Readable when `accept` has something to say; after `listen`."""

    def accept(self) -> Link | None:
        """The next process that has connected; None if there is none.

        Raises `PlatformError` if one had to be turned away, `OSError` when there are no
        descriptors left: it stays readable then.
        """

    def publish(self, table: bytes, hosts: Collection[int]) -> None:
        """Replace the match table, for these hosts; the others shall not find us any more.

        Raises `PlatformError`.
        """

    def quiesce(self, host: int) -> bool:
        """All flows there have ended: let nobody on this host find us until the next `publish`.

        True if its processes hold memory or channels of ours besides, and have to leave.
        """

    def suspending(self) -> Collection[int]:
        """Hosts that are to be saved, and wait for the `publish` that does not name them."""

    def refresh(self) -> None:
        """Every second: look again which hosts there are, and take up what was put off."""

    def resolve(self, domain: Domain) -> int | None:
        """Number of the host a node is mapped to; None if it is not there (now)."""

    def create_region(self, spec: RegionSpec) -> Region:
        """A region as `spec` says. Raises `PlatformError` when there is nothing left for it."""

    def create_trace(self, order: int, host: int | None) -> TraceMemory:
        """A trace ring of at most 2**`order` bytes for a process on this host, or for ourselves.

        Raises `PlatformError`.
        """

    def check_doorbell(self, bound: Attachment) -> None:
        """Raises `PlatformError` unless BOUND may come with this."""

    def close(self) -> None:
        """Leave nothing behind. Idempotent."""
