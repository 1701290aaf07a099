# SPDX-License-Identifier: Apache-2.0
"""Agreement with scapy (used by tests only: its licence is GPL), and the cases it reads otherwise.

It reads anything, so agreement is tested on what we build.
"""

from typing import Any

from hypothesis import assume, given
from scapy.compat import raw
from scapy.contrib.automotive import someip as sc
from scapy.packet import Packet, Raw
from someip_strategies import messages, several_messages, standard_sd_messages

from ivc.someip import (
    AddressOption,
    ConfigurationOption,
    Entry,
    EventgroupEntry,
    Header,
    LoadBalancingOption,
    Message,
    Option,
    SdMessage,
    ServiceEntry,
    TpHeader,
    UnknownEntry,
    UnknownOption,
)


def their_fields(message: Message) -> dict[str, Any]:
    """`message` under scapy's field names."""
    header = message.header
    fields = {
        "srv_id": header.service_id,
        "sub_id": header.method_id,
        "client_id": header.client_id,
        "session_id": header.session_id,
        "proto_ver": header.protocol_version,
        "iface_ver": header.interface_version,
        "msg_type": header.message_type,
        "retcode": header.return_code,
    }
    if message.tp is not None:
        fields |= {"offset": message.tp.offset, "more_seg": int(message.tp.more)}
    return fields


def their_entry(entry: Entry) -> dict[str, Any]:
    assert not isinstance(entry, UnknownEntry)
    fields = {
        "type": entry.type,
        "index_1": entry.run_1.first,
        "index_2": entry.run_2.first,
        "n_opt_1": entry.run_1.count,
        "n_opt_2": entry.run_2.count,
        "srv_id": entry.service_id,
        "inst_id": entry.instance_id,
        "major_ver": entry.major_version,
        "ttl": entry.ttl,
    }
    if isinstance(entry, ServiceEntry):
        return fields | {"minor_ver": entry.minor_version}
    group = {"cnt": entry.counter, "eventgroup_id": entry.eventgroup_id}
    return fields | group | {"res": 8 * entry.initial_data}


def their_option(option: Option) -> dict[str, Any]:
    match option:
        case AddressOption(address, protocol, port):
            kind = option.role + (4 if address.version == 4 else 6)
            return {"type": kind, "addr": str(address), "l4_proto": protocol, "port": port}
        case LoadBalancingOption(priority, weight):
            return {"type": 0x02, "priority": priority, "weight": weight}
        case ConfigurationOption(items):
            strings = (key if value is None else key + b"=" + value for key, value in items)
            return {"type": 0x01, "cfg_str": b"".join(bytes([len(s)]) + s for s in (*strings, b""))}
        case _:
            raise AssertionError(option)


def assert_fields(packet: Packet, expected: dict[str, Any]) -> None:
    assert {name: packet.getfieldval(name) for name in expected} == expected


@given(messages)
def test_messages_are_read_and_built_alike(message: Message) -> None:
    packet = sc.SOMEIP(message.build())
    assert_fields(packet, their_fields(message))
    assert b"".join(map(raw, packet.data)) == message.payload
    assert packet.len == len(message.build()) - 8
    theirs = raw(sc.SOMEIP(**their_fields(message)) / Raw(message.payload))
    assert Message.parse(theirs) == (message, b"")


@given(several_messages)
def test_datagrams_of_several_messages_are_read_alike(several: list[Message]) -> None:
    assume(all(message.payload for message in several[:-1]))
    packet: Any = sc.SOMEIP(b"".join(m.build() for m in several))
    for message in several:
        assert_fields(packet, their_fields(message))
        packet = packet.payload


@given(standard_sd_messages)
def test_service_discovery_is_read_and_built_alike(sd: SdMessage) -> None:
    packet = sc.SD(sd.build())
    flags = 0x80 * sd.reboot | 0x40 * sd.unicast | 0x20 * sd.explicit_initial_data
    assert packet.flags == flags
    assert len(packet.entry_array) == len(sd.entries)
    for theirs, entry in zip(packet.entry_array, sd.entries, strict=True):
        assert_fields(theirs, their_entry(entry))
    assert len(packet.option_array) == len(sd.options)
    for theirs, option in zip(packet.option_array, sd.options, strict=True):
        assert_fields(theirs, their_option(option))
    built = sc.SD(flags=flags)
    built.entry_array, built.option_array = packet.entry_array, packet.option_array
    assert SdMessage.parse(raw(built)) == (sd, b"")


# Known disagreements with scapy 2.8.


def test_scapy_takes_tp_messages() -> None:
    """Others refuse them."""
    segment = Message(Header(1, 1, 1, 1, message_type=0x20), b"x" * 16, TpHeader(16, more=True))
    packet = sc.SOMEIP(segment.build())
    assert (packet.offset, packet.more_seg) == (16, 1)


def test_scapy_shows_initial_data_requested_as_a_reserved_bit() -> None:
    sd = SdMessage((EventgroupEntry(6, 1, 1, 1, 3, 1, initial_data=True),))
    assert sc.SD(sd.build()).entry_array[0].res == 8
    assert SdMessage.parse(sd.build())[0].entries[0] == sd.entries[0]


def test_scapy_needs_the_table_of_payloads_to_see_service_discovery() -> None:
    data = Message(Header(0xFFFF, 0x8100, message_type=2), SdMessage().build()).build()
    assert isinstance(sc.SOMEIP(data).data[0], Raw)
    sc.SOMEIP.payload_cls_by_srv_id[0xFFFF] = sc.SD
    try:
        assert isinstance(sc.SOMEIP(data).data[0], sc.SD)
    finally:
        del sc.SOMEIP.payload_cls_by_srv_id[0xFFFF]


def test_scapy_writes_length_8_if_the_payload_is_not_a_layer() -> None:
    data = raw(sc.SOMEIP(srv_id=1, sub_id=1, data=[Raw(b"ping")]))
    message, rest = Message.parse(data)
    assert (message.payload, rest) == (b"", b"ping")


def test_scapy_loses_the_options_after_an_unknown_one() -> None:
    sd = SdMessage(options=(UnknownOption(0x99, b"?"), LoadBalancingOption(1, 2)))
    assert len(sc.SD(sd.build()).option_array) == 1
    assert SdMessage.parse(sd.build())[0].options == sd.options


def test_scapy_does_not_read_entries_of_unknown_type() -> None:
    sd = SdMessage((UnknownEntry(b"\x08" + bytes(15)), ServiceEntry(1, 1, 1, 1, 3, 0)))
    entries = sc.SD(sd.build()).entry_array
    assert not any(isinstance(entry, sc.SDEntry_Service) for entry in entries)
    assert SdMessage.parse(sd.build())[0].entries == sd.entries
