# SPDX-License-Identifier: Apache-2.0
"""What the ring's tests share: both regions of a flow in plain memory, and strategies."""

from functools import cache
from mmap import mmap

from hypothesis import strategies as st

from ivc.shm.layout import DATA_OFFSET, RECEIVER_REGION_SIZE, Ctrl, fields, sender_region_size
from ivc.shm.record import Ident, Record
from ivc.shm.region import Flow, receiver_page, sender_page

ORDER = 12
SIZE = 1 << ORDER
MAX = SIZE // 2 - 32
FLOW = Flow(flow_id=7, epoch=0x5EED, order=ORDER)
IDENT = Ident(flow_id=7, epoch=0x5EED, order=ORDER)
OFFSET = {name: offset for name, (offset, _) in fields(Ctrl).items()}

#: Indices are free-running: they begin at 0 here, but must not mind passing 2**64.
starts = st.sampled_from([0, 32 * 1000, (1 << 64) - 32, (1 << 64) - SIZE, (1 << 63)])

sizes = st.one_of(
    st.integers(0, 100),
    st.sampled_from([0, 1, 31, 32, 33, 480, 1000, MAX - 1, MAX]),
    st.integers(0, MAX),
)

#: Laying a page out takes longer than most tests do with it.
_sender_page, _receiver_page = cache(sender_page), cache(receiver_page)

_PATTERN = bytes(range(251)) * 10


def payload(seed: int, size: int) -> bytes:
    """Bytes that differ from record to record and from place to place."""
    return _PATTERN[seed % 251 :][:size]


def sender_memory(flow: Flow = FLOW, start: int = 0) -> mmap:
    """A sender's region as the controller makes it."""
    memory = mmap(-1, sender_region_size(flow.order))
    page = _sender_page(flow, start)
    memory[: len(page)] = page
    return memory


def receiver_memory(flow: Flow = FLOW, start: int = 0) -> mmap:
    """A receiver's region as the controller makes it."""
    memory = mmap(-1, RECEIVER_REGION_SIZE)
    page = _receiver_page(flow, start)
    memory[: len(page)] = page
    return memory


def word(memory: mmap, name: str) -> int:
    """A 64-bit word of a control page."""
    return int.from_bytes(memory[OFFSET[name] : OFFSET[name] + 8], "little")


def poke(memory: mmap, offset: int, value: bytes) -> None:
    """Write rubbish, as far as it fits."""
    value = value[: len(memory) - offset]
    memory[offset : offset + len(value)] = value


def poke_word(memory: mmap, name: str, value: int) -> None:
    """Overwrite a 64-bit word of a control page."""
    poke(memory, OFFSET[name], (value % (1 << 64)).to_bytes(8, "little"))


def data_offset(index: int) -> int:
    """Where the record at an index lies in the sender's region."""
    return DATA_OFFSET + index % SIZE


def record(seed: int) -> Record:
    """A header whose free fields all carry something."""
    return Record(
        src_ip=0x0A000001 + seed,
        src_port=seed % 65536,
        dst_ip=0xE0F40001,
        dst_port=30490,
        flags=seed % 8,
        kseq=seed,
        stamp=seed * 3 % 65536,
    )
