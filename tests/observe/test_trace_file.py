# SPDX-License-Identifier: Apache-2.0
"""The pcapng files of `ivc trace`, made of records by hand: what tshark reads in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import monotonic_ns, sleep
from typing import Any

import pytest
from pcapng_blocks import PACKET, PACKET_DATA, blocks, captured
from trace_memory import TraceRing
from trace_rows import complaints, decode

from ivc import someip
from ivc.lab.peers.common import SD_PORT, SERVER_PORT
from ivc.observe.trace_filter import Filter, read_filter
from ivc.observe.trace_names import Names
from ivc.observe.trace_session import SETTLE_NS, PcapngSink, Session, Sink, TextSink
from ivc.observe.trace_source import Gone, Ring
from ivc.shm.layout import RecordKind, TraceEvent
from ivc.shm.library import lib
from ivc.shm.relay import Effect

HMI, ADAS = (0x0A4D0001, 40000), (0x0A4D0002, SERVER_PORT)
NAMES = Names({HMI[0]: "hmi", ADAS[0]: "adas"})
REAL = 1_700_000_000_000_000_000
EXPERT = "_ws.expert.message"


class Field:
    """Rings by hand, and the trace of them."""

    def __init__(self, count: int = 1, snap: int = 65535) -> None:
        self.rings = [TraceRing(snap) for _ in range(count)]
        self.said: list[str] = []

    def put(self, payload: bytes, time: int = 1, ring: int = 0, **more: Any) -> None:
        source, destination = more.pop("source", HMI), more.pop("destination", ADAS)
        assert self.rings[ring].writer.put(payload, source, destination, time=time, **more)

    def run(self, sink: Sink, filters: Sequence[Filter] = ()) -> tuple[int, int]:
        session = Session(sink, NAMES, filters, REAL, self.said.append)
        session.hear(FakeRing(number, ring) for number, ring in enumerate(self.rings))
        session.turn()
        return session.finish()

    def write(self, file: Path, filters: Sequence[Filter] = (), snap: int = 65535) -> Path:
        with file.open("wb") as output:
            self.run(PcapngSink(output.write, NAMES, snap, REAL), filters)
        return file


class FakeRing(Ring):
    """One that nobody had to map."""

    def __init__(self, number: int, ring: TraceRing) -> None:
        self.number, self.of, self.reader = number, f"ring {number}", ring.reader

    def close(self) -> None:
        pass


def call(payload: bytes = b"", service: int = 0x1234, kind: int = 0, session: int = 1) -> bytes:
    header = someip.Header(service, 0x0421, 1, session, message_type=kind)
    return header.build(len(payload)) + payload


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return tmp_path / "trace.pcapng"


def test_a_message_is_a_datagram_with_its_time_and_a_comment(capture: Path) -> None:
    field = Field()
    field.put(call(b"hello"), 123)
    names = [
        "frame.time_epoch",
        "frame.comment",
        "frame.interface_name",
        "frame.interface_description",
    ]
    names += [
        "ip.src",
        "ip.dst",
        "udp.srcport",
        "udp.dstport",
        "someip.methodid",
        "ip.checksum.status",
    ]
    (row,) = decode(field.write(capture), names, "-o", "ip.check_checksum:TRUE")
    assert row["frame.time_epoch"] == "1700000000.000000123"
    assert row["frame.comment"] == "path=direct verdict=sent"
    assert row["frame.interface_name"] == "hmi 10.77.0.1:40000 > adas 10.77.0.2:30509 UDP direct"
    assert row["frame.interface_description"].endswith(", flow 1")
    assert (row["ip.src"], row["udp.srcport"]) == ("10.77.0.1", "40000")
    assert (row["ip.dst"], row["udp.dstport"]) == ("10.77.0.2", "30509")
    assert row["ip.checksum.status"] == "1"
    assert row["someip.methodid"] == "0x0421"
    assert complaints([row]) == []


@pytest.mark.parametrize(
    ("event", "faults", "comment"),
    [
        (TraceEvent.NETWORK, (), "path=network verdict=sent"),
        (TraceEvent.PASSED, (), "path=relay verdict=passed"),
        (TraceEvent.DENIED, (), "path=relay verdict=denied"),
        (TraceEvent.FULL, (), "path=relay verdict=full"),
        (TraceEvent.DROPPED, (Effect.DROP_NTH,), "path=relay verdict=dropped fault=drop-nth"),
        (
            TraceEvent.PASSED,
            (Effect.DELAY, Effect.CORRUPT),
            "path=relay verdict=passed fault=delay,corrupt",
        ),
    ],
)
def test_the_comment_says_path_verdict_and_faults(
    capture: Path, event: TraceEvent, faults: Sequence[Effect], comment: str
) -> None:
    field = Field()
    field.put(call(), event=event, faults=sum(1 << effect for effect in faults))
    (row,) = decode(field.write(capture), ["frame.comment"])
    assert row["frame.comment"] == comment


def test_several_messages_of_a_datagram_are_all_there(capture: Path) -> None:
    field = Field()
    field.put(b"".join(call(session=n) for n in (1, 2, 3)))
    (row,) = decode(field.write(capture), ["someip.sessionid"])
    assert row["someip.sessionid"] == "0x0001;0x0002;0x0003"


def test_segments_are_put_together(capture: Path) -> None:
    field = Field()
    whole = someip.Message(someip.Header(0x1234, 0x0421, 1, 1), bytes(range(256)) * 16)
    for number, segment in enumerate(someip.segment(whole)):
        field.put(segment.build(), number)
    rows = decode(field.write(capture), ["someip.tp.reassembled.length", "someip.payload"])
    assert len(rows) == 3
    assert rows[-1]["someip.tp.reassembled.length"] == "4096"
    assert complaints(rows) == []


def test_service_discovery_is_read(capture: Path) -> None:
    field = Field()
    entry = someip.ServiceEntry(someip.EntryType.OFFER, 0x1234, 1, 1, 3, 0)
    payload = someip.SdMessage((entry,)).build()
    data = someip.Header(0xFFFF, 0x8100, message_type=2).build(len(payload)) + payload
    group = (0xE0E0E0F5, SD_PORT)
    field.put(data, source=(ADAS[0], SD_PORT), destination=group)
    (row,) = decode(field.write(capture), ["someipsd.entry.serviceid"])
    assert row["someipsd.entry.serviceid"] == "0x1234"
    assert complaints([row]) == []


# ---- TCP


def stream(field: Field, messages: bytes, cuts: Sequence[int], way: int = 0, time: int = 1) -> None:
    """A direction of a connection, cut into records."""
    ends = {"source": HMI, "destination": ADAS}
    if way:
        ends = {"source": ADAS, "destination": HMI}
    start = 0
    for end in (*cuts, len(messages)):
        piece = messages[start:end]
        more = {"position": start + 7000, "kind": RecordKind.STREAM, **ends}
        field.put(piece, time, way, **more)
        start, time = end, time + 2


TCP = [
    "tcp.seq",
    "tcp.ack",
    "tcp.len",
    "someip.sessionid",
    "tcp.analysis.flags",
    "tcp.checksum.status",
]


def test_messages_across_records_are_put_together(capture: Path) -> None:
    field = Field()
    stream(field, b"".join(call(bytes(40), session=n) for n in range(1, 6)), [10, 100, 101, 150])
    rows = decode(field.write(capture), TCP, "-o", "tcp.check_checksum:TRUE")
    sessions = ";".join(row["someip.sessionid"] for row in rows if row["someip.sessionid"])
    assert sessions == ";".join(f"0x{n:04x}" for n in range(1, 6))
    assert complaints(rows) == []
    assert {row["tcp.checksum.status"] for row in rows} == {"1"}


def test_both_ways_acknowledge_each_other(capture: Path) -> None:
    field = Field(2)
    stream(field, call(session=1) + call(session=2), [16], 0, 1)
    stream(field, call(session=1, kind=0x80) + call(session=2, kind=0x80), [16], 1, 2)
    rows = decode(field.write(capture), TCP)
    assert [(row["tcp.seq"], row["tcp.ack"]) for row in rows] == [
        ("1", "1"),
        ("1", "17"),
        ("17", "17"),
        ("17", "33"),
    ]
    assert [row["tcp.analysis.flags"] for row in rows] == [""] * 4


def test_a_long_one_way_stream_is_nothing_to_wonder_at(capture: Path) -> None:
    field = Field()
    data = b"".join(call(bytes(980), session=n % 65535) for n in range(55))
    stream(field, data, range(2000, len(data), 2000))
    rows = decode(field.write(capture), TCP)
    assert complaints(rows) == []


def test_bytes_that_are_missing_are_seen_to_be_missing(capture: Path) -> None:
    field = Field()
    for position in (0, 16, 48):
        field.put(call(), position + 1, position=position, kind=RecordKind.STREAM)
    rows = decode(field.write(capture), ["tcp.analysis.lost_segment"])
    assert [bool(row["tcp.analysis.lost_segment"]) for row in rows] == [False, False, True]


# ---- what is lost, cut or not wanted


def test_what_was_lost_stands_at_the_next_and_in_the_statistics(capture: Path) -> None:
    field = Field()
    field.put(call(), 1)
    field.put(call(), 2, lost=3)
    field.put(call(), 3, lost=1, destination=HMI)
    field.write(capture)
    assert dropcounts(capture) == [0, 3, 1]
    assert drops_of_interfaces(capture) == [(5, 3), (2, 1)]


def test_a_message_cut_short_says_how_long_it_was(capture: Path) -> None:
    field = Field(snap=20)
    field.put(call(bytes(1000)))
    (row,) = decode(field.write(capture, snap=20), ["frame.len", "frame.cap_len"])
    assert (row["frame.len"], row["frame.cap_len"]) == ("1044", "48")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("service=0x1234", [1, 3]),
        ("service=0x4321,0x1234", [1, 2, 3]),
        ("type=RESPONSE", [3]),
        ("from=hmi", [1, 2, 4]),
        ("node=adas type=RESPONSE", [3]),
        ("to=hmi service=0x4321", []),
        ("verdict=denied", [2]),
        ("path=relay,network", [2]),
        ("protocol=udp", [1, 2, 3, 4]),
        ("protocol=tcp", []),
    ],
)
def test_only_what_is_wanted_is_written(capture: Path, text: str, left: list[int]) -> None:
    field = Field()
    field.put(call(), 1)
    field.put(call(service=0x4321), 2, event=TraceEvent.DENIED)
    field.put(call(kind=0x80), 3, source=ADAS, destination=HMI)
    field.put(b"rubbish", 4)
    rows = decode(field.write(capture, [read_filter(text, ["hmi", "adas"])]), ["frame.time_epoch"])
    assert [int(row["frame.time_epoch"][-9:]) for row in rows] == left


def test_records_of_several_processes_are_in_order(capture: Path) -> None:
    field = Field(3)
    for time in range(30):
        field.put(call(session=time + 1), time, ring=time * 7 % 3)
    rows = decode(field.write(capture), ["someip.sessionid"])
    assert [int(row["someip.sessionid"], 16) for row in rows] == list(range(1, 31))


def test_a_damaged_ring_is_told_of() -> None:
    field = Field()
    field.put(call())
    data = len(field.rings[0].memory) - (1 << 16)
    field.rings[0].memory[data + 12 : data + 16] = b"\xff\xff\xff\xff"
    assert field.run(TextSink(lambda data: None, lambda at: "")) == (0, 0)
    assert field.said == ["ring 0: its trace ring is damaged, and not read any more"]


def test_what_is_not_due_when_its_process_has_gone_is_written_later() -> None:
    """The clock of a guest may be ahead of ours."""
    field = Field()
    session = Session(TextSink(len, lambda _: ""), NAMES, [], REAL, field.said.append)
    session.hear([FakeRing(1, field.rings[0])])
    field.put(call(), monotonic_ns() + 10 * SETTLE_NS)
    session.hear([Gone(1)])
    sleep(1.5 * SETTLE_NS / 1e9)
    session.turn()
    field.rings[0].close()
    assert session.finish() == (1, 0)


# ---- blocks by hand: tshark 4.0 shows neither


def options(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while data:
        code, size = (int.from_bytes(data[at : at + 2], "little") for at in (0, 2))
        found[code] = data[4 : 4 + size]
        data = data[4 + size + -size % 4 :]
    return found


def dropcounts(capture: Path) -> list[int]:
    found = []
    for kind, body in blocks(capture):
        if kind == PACKET:
            size = captured(body)
            dropped = options(body[PACKET_DATA + size + -size % 4 :]).get(4, bytes(8))
            found.append(int.from_bytes(dropped, "little"))
    return found


def drops_of_interfaces(capture: Path) -> list[tuple[int, int]]:
    found = []
    for kind, body in blocks(capture):
        if kind == 5:
            said = options(body[12:])
            found.append((int.from_bytes(said[4], "little"), int.from_bytes(said[5], "little")))
    return found


def test_rings_that_are_too_many_are_told_of_and_given_back() -> None:
    field = Field()
    session = Session(TextSink(len, lambda _: ""), NAMES, [], REAL, field.said.append)
    session.hear(FakeRing(number, field.rings[0]) for number in range(lib.IVC_CAPTURE_RINGS + 1))
    assert field.said == [f"ring {lib.IVC_CAPTURE_RINGS} is not traced: too many trace rings"]
    session.hear([Gone(lib.IVC_CAPTURE_RINGS)])
    session.turn()
    assert session.finish() == (0, 0)
