# SPDX-License-Identifier: Apache-2.0
"""What we build is what tshark reads, and it has nothing against it."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import product
from pathlib import Path

import pytest
from someip_tshark import COMPLAINTS, SD_PORT, Row, decode, tcp, udp

from ivc.someip import (
    COOKIES,
    FOREVER,
    STOP,
    AddressOption,
    ConfigurationOption,
    EndpointOption,
    Entry,
    EntryType,
    EventgroupEntry,
    Header,
    LoadBalancingOption,
    MacGroupcastOption,
    Message,
    MessageType,
    MulticastOption,
    Option,
    ProtectionOption,
    Protocol,
    ReturnCode,
    Run,
    SdEndpointOption,
    SdMessage,
    SelectiveOption,
    ServiceEntry,
    UnknownEntry,
    UnknownOption,
    build_datagrams,
    segment,
)

HEADER_FIELDS = {
    "someip.serviceid": "service_id",
    "someip.methodid": "method_id",
    "someip.clientid": "client_id",
    "someip.sessionid": "session_id",
    "someip.protoversion": "protocol_version",
    "someip.interfaceversion": "interface_version",
    "someip.messagetype": "message_type",
    "someip.returncode": "return_code",
}
ENTRY_FIELDS = {
    "someipsd.entry.type": "type",
    "someipsd.entry.serviceid": "service_id",
    "someipsd.entry.instanceid": "instance_id",
    "someipsd.entry.majorver": "major_version",
    "someipsd.entry.ttl": "ttl",
    "someipsd.entry.minorver": "minor_version",
    "someipsd.entry.eventgroupid": "eventgroup_id",
    "someipsd.entry.counter": "counter",
    "someipsd.entry.initialevents": "initial_data",
}
RUN_FIELDS = ("index1", "index2", "numopt1", "numopt2")
OPTION_FIELDS = {
    "someipsd.option.ipv4address": "address",
    "someipsd.option.ipv6address": "address",
    "someipsd.option.proto": "protocol",
    "someipsd.option.port": "port",
    "someipsd.option.priority": "priority",
    "someipsd.option.weight": "weight",
}
FIELDS = [
    *HEADER_FIELDS,
    *ENTRY_FIELDS,
    *OPTION_FIELDS,
    *(f"someipsd.entry.{name}" for name in RUN_FIELDS),
    "someip.length",
    "someip.payload",
    "someip.tp.offset",
    "someip.tp.flags.more_segments",
    "someip.tp.reassembled.data",
    "someipsd.flags.reboot",
    "someipsd.flags.unicast",
    "someipsd.flags.exp_init_events",
    "someipsd.option.type",
    "someipsd.option.config_string_element",
]

CALL = Header(0x1234, 0x0421, 0x0001, 0x0002)
V4, V6 = IPv4Address("10.77.0.1"), IPv6Address("fd00::1")
OFFER = ServiceEntry(EntryType.OFFER, 0x1234, 0x5678, 1, 3, 0)
OPTIONS: tuple[Option, ...] = (
    EndpointOption(V4, Protocol.UDP, 30509),
    EndpointOption(V4, Protocol.TCP, 30510),
    EndpointOption(V6, Protocol.UDP, 30509),
    MulticastOption(IPv4Address("224.244.224.245"), Protocol.UDP, 30511),
    MulticastOption(IPv6Address("ff02::1"), Protocol.UDP, 30511),
    SdEndpointOption(V4, Protocol.UDP, SD_PORT),
    SdEndpointOption(V6, Protocol.UDP, SD_PORT),
    ConfigurationOption(()),
    ConfigurationOption(((b"key", b"1"), (b"key", b"2"), (b"alone", None), (b"empty", b""))),
    LoadBalancingOption(1, 2),
)
UNKNOWN_OPTIONS: tuple[Option, ...] = (
    ProtectionOption(1, 2),
    MacGroupcastOption(bytes.fromhex("91e0f0000001"), 0x22F0, b"stream-1"),
    SelectiveOption((1, 2)),
    UnknownOption(0x99, b"\x80??"),
)


def entries(run_1: Run, run_2: Run) -> list[Entry]:
    """Every kind of entry."""
    runs = run_1, run_2
    return [
        ServiceEntry(EntryType.FIND, 0x1234, 0xFFFF, 0xFF, 3, 0xFFFFFFFF, *runs),
        ServiceEntry(EntryType.OFFER, 0x1234, 0x5678, 1, FOREVER, 0x11223344, *runs),
        ServiceEntry(EntryType.OFFER, 0x1234, 0x5678, 1, STOP, 0, *runs),
        EventgroupEntry(EntryType.SUBSCRIBE, 0x1234, 0x5678, 1, 3, 0x4465, 5, False, *runs),
        EventgroupEntry(EntryType.SUBSCRIBE, 0x1234, 0x5678, 1, 3, 0x4465, 15, True, *runs),
        EventgroupEntry(EntryType.SUBSCRIBE, 0x1234, 0x5678, 1, STOP, 0x4465, 0, False, *runs),
        EventgroupEntry(EntryType.SUBSCRIBE_ACK, 0x1234, 0x5678, 1, 3, 0x4465, 1, False, *runs),
        EventgroupEntry(EntryType.SUBSCRIBE_ACK, 0x1234, 0x5678, 1, STOP, 0x4465, 0, False, *runs),
    ]


def sd_message(sd: SdMessage) -> Message:
    return Message(Header(0xFFFF, 0x8100, 0, 1, message_type=MessageType.NOTIFICATION), sd.build())


def plain_messages() -> Iterator[Message]:
    codes = [*ReturnCode, 0x20, 0x3F]
    for (n, kind), code in product(enumerate(MessageType), codes):
        yield Message(Header(0x1234 + n, 0x0421, n, code, 1, 3, kind, code), bytes(range(n)))


def large_messages() -> Iterator[Message]:
    for (n, kind), size in product(enumerate(MessageType), (1, 1392, 1393, 4000)):
        payload = bytes((size + at) % 251 for at in range(size))
        yield Message(Header(0x1234, 0x0421 + n, 1, size, 1, 1, kind, 0), payload)


def sd_messages() -> Iterator[SdMessage]:
    """Every kind of entry with every kind of option, and all together; every flag."""
    for option in OPTIONS:
        for entry in entries(Run(0, 1), Run()):
            yield SdMessage((entry,), (option,))
    yield SdMessage(tuple(entries(Run(8, 2), Run(0, 3))), OPTIONS)
    for flags in product([False, True], repeat=3):
        yield SdMessage((OFFER,), (), *flags)


@dataclass(frozen=True)
class Sent:
    """What is in a frame, and what tshark reads in it."""

    messages: list[Message]
    sd: SdMessage | None
    row: Row


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> list[Sent]:
    """All that is built here, in one run of tshark."""
    plain = list(plain_messages())
    built: list[tuple[bytes, list[Message], SdMessage | None]] = []
    built += [(udp(m.build()), [m], None) for m in plain]
    built += [(udp(s.build()), [s], None) for m in large_messages() for s in segment(m)]
    for sd in sd_messages():
        message = sd_message(sd)
        built.append((udp(message.build(), SD_PORT), [message], sd))
    first = 0
    for datagram in build_datagrams(plain):
        last = first
        while sum(len(m.build()) for m in plain[first:last]) < len(datagram):
            last += 1
        built.append((udp(datagram), plain[first:last], None))
        first = last
    stream = [COOKIES[0], *plain[:3], COOKIES[1], *plain[3:6]]
    built.append((tcp([b"".join(m.build() for m in stream)])[0], stream, None))
    rows = decode([frame for frame, _, _ in built], FIELDS, tmp_path_factory.mktemp("tshark"))
    return [Sent(messages, sd, row) for (_, messages, sd), row in zip(built, rows, strict=True)]


def numbers(values: list[str]) -> list[int]:
    return [int(value, 0) for value in values]


def test_where_tshark_is_missing_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="apt-get install"):
        decode([], [], tmp_path)


def test_tshark_reads_500_messages_and_more_and_has_nothing_against_any(sent: list[Sent]) -> None:
    assert sum(len(one.messages) for one in sent) >= 500
    assert [one for one in sent if any(one.row[name] for name in COMPLAINTS)] == []


@pytest.mark.req("feat_req_someip_45", "feat_req_someip_77", "feat_req_someip_319")
def test_tshark_reads_every_header_as_it_was_built(sent: list[Sent]) -> None:
    for one in sent:
        for field, name in HEADER_FIELDS.items():
            expected = [getattr(m.header, name) for m in one.messages]
            assert numbers(one.row[field]) == expected, (field, one)
        lengths = [len(m.build()) - 8 for m in one.messages]
        assert numbers(one.row["someip.length"]) == lengths


@pytest.mark.req("feat_req_someiptp_766", "feat_req_someiptp_768", "feat_req_someiptp_770")
def test_tshark_reads_every_tp_header_as_it_was_built(sent: list[Sent]) -> None:
    segments = [(one, one.messages[0].tp) for one in sent if one.messages[0].tp]
    assert segments
    for one, tp in segments:
        assert numbers(one.row["someip.tp.offset"]) == [tp.offset]
        assert numbers(one.row["someip.tp.flags.more_segments"]) == [tp.more]


@pytest.mark.req("feat_req_someiptp_785")
def test_tshark_puts_segments_together_to_what_was_cut(sent: list[Sent]) -> None:
    whole = [one.row["someip.tp.reassembled.data"] for one in sent]
    cut = [m.payload.hex() for m in large_messages()]
    assert [value for values in whole for value in values] == cut


def test_tshark_reads_every_entry_as_it_was_built(sent: list[Sent]) -> None:
    for one in sent:
        if one.sd is None:
            continue
        for field, name in ENTRY_FIELDS.items():
            having = [entry for entry in one.sd.entries if hasattr(entry, name)]
            assert numbers(one.row[field]) == [getattr(entry, name) for entry in having]
        runs = [numbers(one.row[f"someipsd.entry.{name}"]) for name in RUN_FIELDS]
        assert [
            (Run(first_1, count_1), Run(first_2, count_2))
            for first_1, first_2, count_1, count_2 in zip(*runs, strict=True)
        ] == [(entry.run_1, entry.run_2) for entry in one.sd.entries]


def test_tshark_reads_every_option_as_it_was_built(sent: list[Sent]) -> None:
    for one in sent:
        if one.sd is None:
            continue
        for field, name in OPTION_FIELDS.items():
            expected = [
                text(getattr(option, name))
                for option in one.sd.options
                if hasattr(option, name) and version_fits(option, field)
            ]
            assert one.row[field] == expected
        strings = [
            (key if value is None else key + b"=" + value).decode()
            for option in one.sd.options
            if isinstance(option, ConfigurationOption)
            for key, value in option.items
        ]
        assert one.row["someipsd.option.config_string_element"] == strings


def text(value: int | IPv4Address | IPv6Address) -> str:
    """`value` as tshark writes it."""
    return str(int(value)) if isinstance(value, int) else str(value)


def version_fits(option: Option, field: str) -> bool:
    """Whether the field of one IP version is about this option."""
    if not field.endswith("address"):
        return True
    return isinstance(option, AddressOption) and f"ipv{option.address.version}" in field


def test_tshark_reads_the_flags_as_they_were_built(sent: list[Sent]) -> None:
    names = ("reboot", "unicast", "exp_init_events")
    for one in sent:
        if one.sd is not None:
            flags = [numbers(one.row[f"someipsd.flags.{name}"]) for name in names]
            expected = one.sd.reboot, one.sd.unicast, one.sd.explicit_initial_data
            assert flags == [[flag] for flag in expected]


@pytest.mark.req("feat_req_someip_586", "feat_req_someip_609")
def test_tshark_finds_messages_and_cookies_wherever_segments_of_tcp_end(tmp_path: Path) -> None:
    stream = [COOKIES[0], *(Message(CALL, bytes(n)) for n in range(20)), COOKIES[1]]
    data = b"".join(m.build() for m in stream)
    frames = tcp(data[at : at + 23] for at in range(0, len(data), 23))
    rows = decode(frames, ["someip.serviceid"], tmp_path)
    found = [number for row in rows for number in numbers(row["someip.serviceid"])]
    assert found == [m.header.service_id for m in stream]
    assert not any(row[name] for row in rows for name in COMPLAINTS)


# Known disagreements with tshark 4.0: it warns of what it does not know, and goes on.


@pytest.mark.parametrize("option", UNKNOWN_OPTIONS, ids=lambda option: type(option).__name__)
def test_tshark_names_an_option_it_does_not_know_and_reads_the_next(
    option: Option, tmp_path: Path
) -> None:
    data = sd_message(SdMessage((OFFER,), (option, LoadBalancingOption(7, 2)))).build()
    (row,) = decode([udp(data, SD_PORT)], FIELDS, tmp_path)
    assert row["_ws.expert.message"] == ["SOME/IP-SD Unknown Option!"]
    assert numbers(row["someipsd.option.priority"]) == [7]


def test_tshark_names_an_entry_it_does_not_know_and_reads_the_next(tmp_path: Path) -> None:
    unknown = UnknownEntry(b"\x08" + bytes(15))
    data = sd_message(SdMessage((unknown, OFFER))).build()
    (row,) = decode([udp(data, SD_PORT)], FIELDS, tmp_path)
    assert row["_ws.expert.message"] == ["SOME/IP-SD Unknown Entry!"]
    assert numbers(row["someipsd.entry.serviceid"]) == [0x1234]
    assert numbers(row["someipsd.entry.type"]) == [EntryType.OFFER]


@pytest.mark.parametrize("kind", [0x02, 0x04, 0x05])
def test_tshark_reads_obsolete_entries_that_we_keep_as_unknown(kind: int, tmp_path: Path) -> None:
    data = sd_message(SdMessage((UnknownEntry(bytes([kind]) + bytes(15)),))).build()
    (row,) = decode([udp(data, SD_PORT)], FIELDS, tmp_path)
    assert numbers(row["someipsd.entry.type"]) == [kind]
    assert not any(row[name] for name in COMPLAINTS)


def test_tshark_sees_the_flag_for_initial_data_that_others_trip_over(tmp_path: Path) -> None:
    entry = EventgroupEntry(EntryType.SUBSCRIBE, 1, 1, 1, 3, 1, initial_data=True)
    (row,) = decode([udp(sd_message(SdMessage((entry,))).build(), SD_PORT)], FIELDS, tmp_path)
    assert numbers(row["someipsd.entry.initialevents"]) == [1]
    assert not any(row[name] for name in COMPLAINTS)
