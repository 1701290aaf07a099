# SPDX-License-Identifier: Apache-2.0
"""Agreement with pysomeip: the same values where both accept, and every other case named."""

from dataclasses import replace

import someip.header as py
from hypothesis import given
from someip_strategies import OTHER_OPTIONS, message_bytes, sd_bytes, standard_sd_messages

from ivc.someip import (
    ConfigurationOption,
    EndpointOption,
    Entry,
    EventgroupEntry,
    Header,
    LoadBalancingOption,
    MacGroupcastOption,
    Message,
    MessageType,
    MulticastOption,
    Option,
    ParseError,
    ProtectionOption,
    ReturnCode,
    Run,
    SdEndpointOption,
    SdMessage,
    SelectiveOption,
    ServiceEntry,
    UnknownEntry,
    UnknownOption,
)

HEAD = bytes.fromhex("1234 0421 00000008 0001 0002")
ENTRY_ONLY = bytes.fromhex("40 000000 00000010")
ADDRESS_OPTIONS: dict[int, type[EndpointOption | MulticastOption | SdEndpointOption]] = {
    0x04: EndpointOption,
    0x06: EndpointOption,
    0x14: MulticastOption,
    0x16: MulticastOption,
    0x24: SdEndpointOption,
    0x26: SdEndpointOption,
}


def message_from(theirs: py.SOMEIPHeader) -> Message:
    header = Header(
        theirs.service_id,
        theirs.method_id,
        theirs.client_id,
        theirs.session_id,
        theirs.protocol_version,
        theirs.interface_version,
        theirs.message_type,
        theirs.return_code,
    )
    return Message(header, theirs.payload)


def option_from(theirs: py.SOMEIPSDOption) -> Option:
    match theirs:
        case py.SOMEIPSDUnknownOption():
            return UnknownOption(theirs.type, theirs.payload)
        case py.SOMEIPSDLoadBalancingOption():
            return LoadBalancingOption(theirs.priority, theirs.weight)
        case py.SOMEIPSDConfigOption():
            return ConfigurationOption(
                tuple((k.encode(), None if v is None else v.encode()) for k, v in theirs.configs)
            )
        case _:
            assert isinstance(theirs, py.AbstractIPOption)
            return ADDRESS_OPTIONS[theirs.type](theirs.address, theirs.l4proto, theirs.port)


def entry_from(theirs: py.SOMEIPSDEntry) -> Entry:
    indexes = theirs.option_index_1, theirs.num_options_1, theirs.option_index_2
    first_1, count_1, first_2 = (index or 0 for index in indexes)
    runs = Run(first_1, count_1), Run(first_2, theirs.num_options_2 or 0)
    common = (
        theirs.sd_type,
        theirs.service_id,
        theirs.instance_id,
        theirs.major_version,
        theirs.ttl,
    )
    if theirs.sd_type in (py.SOMEIPSDEntryType.FindService, py.SOMEIPSDEntryType.OfferService):
        return ServiceEntry(*common, theirs.service_minor_version, *runs)
    group, counter = theirs.eventgroup_id, theirs.eventgroup_counter
    return EventgroupEntry(*common, group, counter, False, *runs)


def sd_from(theirs: py.SOMEIPSDHeader) -> SdMessage:
    return SdMessage(
        tuple(map(entry_from, theirs.entries)),
        tuple(map(option_from, theirs.options)),
        theirs.flag_reboot,
        theirs.flag_unicast,
        bool(theirs.flags_unknown & 0x20),
    )


def their_message(data: bytes) -> tuple[py.SOMEIPHeader, bytes] | None:
    try:
        read: tuple[py.SOMEIPHeader, bytes] = py.SOMEIPHeader.parse(data)
    except py.ParseError:
        return None
    return read


def their_sd(data: bytes) -> tuple[py.SOMEIPSDHeader, bytes] | None:
    try:
        read: tuple[py.SOMEIPSDHeader, bytes] = py.SOMEIPSDHeader.parse(data)
    except (py.ParseError, UnicodeDecodeError):
        return None
    return read


def our_sd(data: bytes) -> tuple[SdMessage, bytes] | None:
    try:
        return SdMessage.parse(data)
    except ParseError:
        return None


def known_to_pysomeip(header: Header) -> bool:
    """Whether pysomeip has a name for type and code and takes the version."""
    return (
        header.protocol_version == 1
        and header.message_type in set(MessageType)
        and header.return_code <= ReturnCode.E_WRONG_MESSAGE_TYPE
    )


def without_other_options(sd: SdMessage) -> SdMessage:
    """`sd` with nothing in the options that they do not look into: they keep them as raw bytes."""
    emptied: list[Option] = []
    for option in sd.options:
        match option:
            case ProtectionOption() | UnknownOption(0x03):
                emptied.append(UnknownOption(0x03, b""))
            case MacGroupcastOption() | UnknownOption(0x15):
                emptied.append(UnknownOption(0x15, b""))
            case SelectiveOption() | UnknownOption(0x20):
                emptied.append(UnknownOption(0x20, b""))
            case _:
                emptied.append(option)
    return replace(sd, options=tuple(emptied))


def pysomeip_takes(sd: SdMessage) -> bool:
    """Whether nothing in `sd` is one of the disagreements named at the end of this file."""
    for entry in sd.entries:
        if isinstance(entry, UnknownEntry):
            return False
        if isinstance(entry, EventgroupEntry) and entry.initial_data:
            return False
        runs = entry.run_1, entry.run_2
        if any(run.first + run.count > len(sd.options) for run in runs):
            return False
    return all(
        (key + (value or b"")).isascii()
        for option in sd.options
        if isinstance(option, ConfigurationOption)
        for key, value in option.items
    )


@given(message_bytes)
def test_messages_are_accepted_and_read_alike(data: bytes) -> None:
    theirs = their_message(data)
    try:
        ours = Message.parse(data)
    except ParseError as error:
        assert theirs is None or error.path == "tp"
        return
    if theirs is None:
        assert not known_to_pysomeip(ours[0].header)
    else:
        assert (message_from(theirs[0]), theirs[1]) == ours
        assert theirs[0].build() == ours[0].build()


@given(standard_sd_messages)
def test_service_discovery_is_accepted_and_read_alike(sd: SdMessage) -> None:
    theirs = their_sd(sd.build())
    assert (theirs is not None) == pysomeip_takes(sd)
    if theirs is not None:
        assert (sd_from(theirs[0]), theirs[1]) == (sd, b"")
        assert bytes(theirs[0].build()) == sd.build()


@given(sd_bytes)
def test_service_discovery_bytes_they_accept_are_read_alike(data: bytes) -> None:
    theirs = their_sd(data)
    ours = our_sd(data)
    if theirs is None:
        return
    if ours is None:  # only over an option that they do not look into
        assert any(option.type in OTHER_OPTIONS for option in theirs[0].options)
        return
    assert without_other_options(ours[0]) == without_other_options(sd_from(theirs[0]))
    assert ours[1] == theirs[1]


# Known disagreements: what we accept and pysomeip 0.3.0 does not, and the one case reversed.


def test_pysomeip_refuses_tp_messages() -> None:
    data = HEAD[:7] + b"\x0c" + HEAD[8:] + bytes.fromhex("01 01 20 00 00000001")
    assert their_message(data) is None
    assert Message.parse(data)[0].tp is not None


def test_pysomeip_refuses_return_codes_it_has_no_name_for() -> None:
    data = HEAD + bytes.fromhex("01 01 80 20")
    assert their_message(data) is None
    assert Message.parse(data)[0].header.return_code == 0x20


def test_pysomeip_refuses_message_types_it_has_no_name_for() -> None:
    data = HEAD + bytes.fromhex("01 01 03 00")
    assert their_message(data) is None
    assert Message.parse(data)[0].header.message_type == 0x03


def test_pysomeip_refuses_other_protocol_versions() -> None:
    data = HEAD + bytes.fromhex("02 01 00 00")
    assert their_message(data) is None
    assert Message.parse(data)[0].header.protocol_version == 2


def test_pysomeip_refuses_the_whole_message_for_initial_data_requested() -> None:
    sd = SdMessage((EventgroupEntry(6, 1, 1, 1, 3, 1, initial_data=True),))
    assert their_sd(sd.build()) is None
    assert our_sd(sd.build()) == (sd, b"")


def test_pysomeip_refuses_the_whole_message_for_an_unknown_entry_type() -> None:
    sd = SdMessage((UnknownEntry(b"\x08" + bytes(15)), ServiceEntry(1, 1, 1, 1, 3, 0)))
    assert their_sd(sd.build()) is None
    assert our_sd(sd.build()) == (sd, b"")


def test_pysomeip_refuses_an_empty_run_that_begins_beyond_the_options() -> None:
    sd = SdMessage((ServiceEntry(0, 1, 1, 1, 3, 0, Run(first=1, count=0)),))
    assert their_sd(sd.build()) is None
    assert our_sd(sd.build()) == (sd, b"")


def test_pysomeip_refuses_a_payload_without_options_array() -> None:
    data = ENTRY_ONLY + bytes(16)
    assert their_sd(data) is None
    assert our_sd(data) == (SdMessage((ServiceEntry(0, 0, 0, 0, 0, 0),)), b"")


def test_pysomeip_trips_over_configuration_values_that_are_not_ascii() -> None:
    sd = SdMessage(options=(ConfigurationOption(((b"k", b"\xff"),)),))
    assert their_sd(sd.build()) is None
    assert our_sd(sd.build()) == (sd, b"")


def test_pysomeip_does_not_look_into_the_options_of_vsomeip() -> None:
    data = bytes.fromhex("40 000000 00000000 00000004 0001 03 00")
    theirs = their_sd(data)
    assert theirs is not None
    assert theirs[0].options == (py.SOMEIPSDUnknownOption(0x03, b"\0"),)
    assert our_sd(data) is None
