# SPDX-License-Identifier: Apache-2.0
"""The ring for Python: typed classes over the C implementation (core/ring.h).

An end keeps its two buffers exported until ``close()``; an ``mmap`` cannot be closed before.
After ``close()`` no other method may be called (``TypeError``).
"""

import errno
from typing import Any, NoReturn

from ivc.shm.errors import AttachError, RingFull, RingPoisoned, TooLarge
from ivc.shm.library import ffi, lib
from ivc.shm.record import Buffer, Ident, Record


def _raise(rc: int) -> NoReturn:
    if rc == -errno.EPROTO:
        raise RingPoisoned("the peer broke the ring's rules")
    if rc == -errno.ENOBUFS:
        raise RingFull("no room in the ring")
    if rc == -errno.EMSGSIZE:
        raise TooLarge("a record takes at most half the ring")
    raise AssertionError(f"unexpected result of the ring: {rc}")


_ATTACH_ERRORS = {
    -errno.EINVAL: "our own region, or the order, does not fit the flow",
    -errno.EPROTO: "the peer's region does not belong to this flow",
    -errno.EPROTONOSUPPORT: "the region has another ABI version",
}


class _End:
    """Both regions of one end, and the private state in C."""

    def __init__(self, kind: str, attach: Any, own: Buffer, peer: Buffer, ident: Ident) -> None:
        self._own = ffi.from_buffer(own, require_writable=True)
        self._peer = ffi.from_buffer(peer)
        self._end = ffi.new(f"struct {kind} *")
        known = ffi.new("struct ivc_ring_ident *", [ident.flow_id, ident.epoch, ident.order])
        rc = attach(self._end, self._own, len(self._own), self._peer, len(self._peer), known)
        if rc != 0:
            self.close()
            raise AttachError(_ATTACH_ERRORS[rc])

    @property
    def c(self) -> Any:
        """The end as C knows it: ``struct ivc_tx *`` or ``struct ivc_rx *``."""
        return self._end

    @property
    def max_payload(self) -> int:
        """The largest payload in bytes this ring takes."""
        return int(self._end.size) // 2 - int(ffi.sizeof("struct ivc_record"))

    @property
    def poisoned(self) -> bool:
        """True once the peer has broken a rule; it stays so."""
        return bool(self._end.poisoned)

    def close(self) -> None:
        """Let go of both buffers. The state word is left as it is."""
        self._end = None
        ffi.release(self._own)
        ffi.release(self._peer)


class Sender(_End):
    """The writing end: ``own`` is the sender's region, ``peer`` the receiver's.

    Raises ``AttachError`` when the regions do not fit ``ident``.
    """

    def __init__(self, own: Buffer, peer: Buffer, ident: Ident) -> None:
        super().__init__("ivc_tx", lib.ivc_tx_attach, own, peer, ident)
        self._header = ffi.new("struct ivc_record *")
        self._iov = ffi.new("struct iovec *")

    def write(self, record: Record, payload: Buffer) -> None:
        """Write one record; the receiver sees it after ``publish()``.

        Raises ``RingFull``, ``TooLarge`` or ``RingPoisoned``; then nothing was written.
        """
        header = self._header
        header.kind, header.flags, header.stamp = record.kind, record.flags, record.stamp
        header.src_ip, header.src_port = record.src_ip, record.src_port
        header.dst_ip, header.dst_port = record.dst_ip, record.dst_port
        header.kseq = record.kseq
        with ffi.from_buffer(payload) as data:
            self._iov.iov_base = data
            self._iov.iov_len = len(data)
            rc = lib.ivc_tx_write(self._end, header, self._iov, 1, len(data))
        if rc != 0:
            _raise(rc)

    def publish(self) -> bool:
        """Show the receiver what was written. True: it sleeps, ring its doorbell."""
        return bool(lib.ivc_tx_publish(self._end))

    def peer_sleeps(self) -> bool:
        """True if the next record published will want the doorbell (a hint)."""
        return bool(lib.ivc_tx_peer_sleeps(self._end))

    @property
    def peer_state(self) -> int:
        """What the peer says about its region: a ``RegionState`` if it is honest."""
        return int(lib.ivc_tx_peer_state(self._end))

    def set_state(self, state: int) -> None:
        """Say something about our region (``RegionState``)."""
        lib.ivc_tx_set_state(self._end, state)


class Receiver(_End):
    """The reading end: ``own`` is the receiver's region, ``peer`` the sender's.

    Raises ``AttachError`` when the regions do not fit ``ident``.
    """

    def __init__(self, own: Buffer, peer: Buffer, ident: Ident) -> None:
        super().__init__("ivc_rx", lib.ivc_rx_attach, own, peer, ident)
        self._header = ffi.new("struct ivc_record *")
        self._room: Any = None
        self._iov = ffi.new("struct iovec *")

    def ready(self) -> bool:
        """True if ``read()`` has something to return or to raise."""
        return bool(lib.ivc_rx_ready(self._end))

    def read(self) -> tuple[Record, bytes] | None:
        """Take the next record; None if the ring is empty. Raises ``RingPoisoned``."""
        header = self._header
        if self._room is None:  # only now: the rings of a relay are read in C
            self._room = ffi.new("uint8_t[]", self.max_payload)
            self._iov.iov_base, self._iov.iov_len = self._room, self.max_payload
        rc = lib.ivc_rx_peek(self._end, header)
        if rc == 0:
            return None
        if rc < 0:
            _raise(rc)
        size = lib.ivc_rx_copy(self._end, header, self._iov, 1)
        lib.ivc_rx_consume(self._end, header)
        record = Record(
            src_ip=header.src_ip,
            src_port=header.src_port,
            dst_ip=header.dst_ip,
            dst_port=header.dst_port,
            flags=header.flags,
            kseq=header.kseq,
            stamp=header.stamp,
            kind=header.kind,
            length=header.length,
            seq=header.seq,
            epoch=header.epoch,
        )
        return record, bytes(ffi.buffer(self._room, size))

    def publish(self) -> None:
        """Tell the sender exactly how far we have read (else it learns it lazily)."""
        lib.ivc_rx_publish(self._end)

    def arm(self) -> bool:
        """Ask for the doorbell behind all published so far. True: empty, safe to sleep."""
        return bool(lib.ivc_rx_arm(self._end))

    @property
    def peer_state(self) -> int:
        """What the peer says about its region: a ``RegionState`` if it is honest."""
        return int(lib.ivc_rx_peer_state(self._end))

    def set_state(self, state: int) -> None:
        """Say something about our region (``RegionState``)."""
        lib.ivc_rx_set_state(self._end, state)
