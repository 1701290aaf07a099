# SPDX-License-Identifier: Apache-2.0
"""The values both implementations of the ring take and return."""

from dataclasses import dataclass
from mmap import mmap

from ivc.shm.layout import RecordKind

#: Memory a ring can lie in, and what a payload may be.
Buffer = bytes | bytearray | memoryview | mmap


@dataclass(frozen=True, slots=True)
class Ident:
    """What both ends of a ring must agree on; it comes from the controller, not from the peer.

    ``epoch`` 0 means: the one in our own region. ``order`` is log2 of the bytes of records.
    """

    flow_id: int
    epoch: int
    order: int


@dataclass(frozen=True, slots=True)
class Record:
    """The header of a record (core/layout.h, ``struct ivc_record``).

    ``flags`` are ``RecordFlag``; ``stamp`` is the publish time in units of 1.024 us, 0 = none;
    ``kseq`` counts the datagrams the sender gave to the kernel alone before this one. The ring
    itself fills ``length`` (bytes), ``seq`` and ``epoch``; a writer need not set them.
    """

    src_ip: int = 0
    src_port: int = 0
    dst_ip: int = 0
    dst_port: int = 0
    flags: int = 0
    kseq: int = 0
    stamp: int = 0
    kind: int = RecordKind.DGRAM
    length: int = 0
    seq: int = 0
    epoch: int = 0
