# SPDX-License-Identifier: Apache-2.0
"""Service discovery payloads."""

import re
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from someip_strategies import Blob, blobs, sd_bytes, sd_from

from ivc.someip import (
    STOP,
    BuildError,
    ConfigurationOption,
    EndpointOption,
    Entry,
    EntryType,
    EventgroupEntry,
    LoadBalancingOption,
    MacGroupcastOption,
    MulticastOption,
    Option,
    ParseError,
    ProtectionOption,
    Protocol,
    Run,
    SdEndpointOption,
    SdMessage,
    SelectiveOption,
    ServiceEntry,
    UnknownEntry,
    UnknownOption,
)

V4, V6 = IPv4Address("10.77.0.1"), IPv6Address("fd00::1")
OFFER = ServiceEntry(EntryType.OFFER, 0x1234, 0x5678, 1, 3, 0)
SUBSCRIBE = EventgroupEntry(EntryType.SUBSCRIBE, 0x1234, 0x5678, 1, 3, 0x0001)

SD_PATH = re.compile(
    r"sd\.flags|sd\.entries|sd\.options|sd"
    r"|sd\.entries\[\d+\]\.options"
    r"|sd\.options\[\d+\](\.[a-z_]+)*"
)


def payload(entries: bytes = b"", options: bytes = b"") -> bytes:
    """A payload from raw arrays, to put damage where it is wanted."""
    return bytes(4) + len(entries).to_bytes(4) + entries + len(options).to_bytes(4) + options


@given(blobs(130))
def test_what_is_built_is_parsed_and_the_rest_is_handed_back(blob: Blob) -> None:
    sd, rest = sd_from(blob), blob.some(8)
    assert SdMessage.parse(sd.build() + rest) == (sd, rest)


@given(sd_bytes)
def test_any_bytes_give_a_value_or_a_parse_error_with_its_path(data: bytes) -> None:
    try:
        sd, _ = SdMessage.parse(data)
    except ParseError as error:
        assert SD_PATH.fullmatch(error.path), error.path
        assert str(error).startswith(error.path)
    else:
        assert SdMessage.parse(sd.build()) == (sd, b"")


@pytest.mark.req("feat_req_someipsd_336", "feat_req_someipsd_342")
def test_options_of_an_entry_are_those_of_its_first_run_then_of_its_second() -> None:
    a, b, c, d = (LoadBalancingOption(i, 0) for i in range(4))
    entry = ServiceEntry(EntryType.OFFER, 1, 1, 1, 3, 0, run_1=Run(2, 2), run_2=Run(0, 1))
    assert SdMessage((entry,), (a, b, c, d)).options_of(entry) == (c, d, a)


@pytest.mark.req(
    "feat_req_someipsd_44",
    "feat_req_someipsd_47",
    "feat_req_someipsd_101",
    "feat_req_someipsd_103",
    "feat_req_someipsd_129",
    "feat_req_someipsd_253",
)
def test_offer_stands_byte_for_byte_as_specified() -> None:
    endpoint = EndpointOption(V4, Protocol.UDP, 30509)
    offer = ServiceEntry(EntryType.OFFER, 0x1234, 0x5678, 0x9A, 0xBCDEF0, 0x11223344, Run(0, 1))
    assert SdMessage((offer,), (endpoint,), reboot=True).build() == bytes.fromhex(
        "c0 000000 00000010"
        " 01 00 00 10 1234 5678 9a bcdef0 11223344"
        " 0000000c 0009 04 00 0a4d0001 00 11 772d"
    )


@pytest.mark.req("feat_req_someipsd_109", "feat_req_someipsd_322")
def test_subscribe_stands_byte_for_byte_as_specified() -> None:
    entry = EventgroupEntry(6, 0x1234, 0x5678, 1, 3, 0x4465, counter=5, initial_data=True)
    assert SdMessage((entry,)).build() == bytes.fromhex(
        "40 000000 00000010 06 00 00 00 1234 5678 01 000003 00 85 4465 00000000"
    )


@pytest.mark.req(
    "feat_req_someipsd_129",
    "feat_req_someipsd_133",
    "feat_req_someipsd_152",
    "feat_req_someipsd_164",
    "feat_req_someipsd_175",
    "feat_req_someipsd_725",
    "feat_req_someipsd_739",
    "feat_req_someipsd_1087",
    "feat_req_someipsd_1103",
    "feat_req_someipsd_1253",
)
@pytest.mark.parametrize(
    ("option", "body"),
    [
        (EndpointOption(V4, 0x06, 1), "0009 04 00 0a4d0001 00 06 0001"),
        (EndpointOption(V6, 0x11, 1), "0015 06 00 fd000000000000000000000000000001 00 11 0001"),
        (MulticastOption(V4, 0x11, 1), "0009 14 00 0a4d0001 00 11 0001"),
        (MulticastOption(V6, 0x11, 1), "0015 16 00 fd000000000000000000000000000001 00 11 0001"),
        (SdEndpointOption(V4, 0x11, 1), "0009 24 00 0a4d0001 00 11 0001"),
        (SdEndpointOption(V6, 0x11, 1), "0015 26 00 fd000000000000000000000000000001 00 11 0001"),
        (ConfigurationOption(()), "0002 01 00 00"),
        (
            ConfigurationOption(((b"a", None), (b"b", b""), (b"b", b"c=d"))),
            "000d 01 00 01 61 02 623d 05 623d633d64 00",
        ),
        (LoadBalancingOption(1, 2), "0005 02 00 0001 0002"),
        (ProtectionOption(1, 2), "0009 03 00 00000001 00000002"),
        (
            MacGroupcastOption(bytes.fromhex("91e0f0000001"), 0x22F0, b"stream-1"),
            "0011 15 00 91e0f0000001 22f0 73747265616d2d31",
        ),
        (SelectiveOption((1, 2)), "0005 20 00 0001 0002"),
        (UnknownOption(0x99, b"\x80xy"), "0003 99 80 7879"),
        (UnknownOption(0x99, b""), "0000 99"),
    ],
)
def test_option_stands_byte_for_byte_as_specified(option: Option, body: str) -> None:
    data = payload(options=bytes.fromhex(body))
    assert SdMessage.parse(data)[0].options == (option,)
    assert SdMessage(options=(option,), unicast=False).build() == data


@pytest.mark.req("feat_req_someipsd_40", "feat_req_someipsd_87", "feat_req_someipsd_1187")
@pytest.mark.parametrize(
    ("flags", "reboot", "unicast", "initial"),
    [(0x80, True, False, False), (0x40, False, True, False), (0x20, False, False, True)],
)
def test_each_flag_has_its_bit(flags: int, reboot: bool, unicast: bool, initial: bool) -> None:
    sd, _ = SdMessage.parse(bytes([flags]) + payload()[1:])
    assert (sd.reboot, sd.unicast, sd.explicit_initial_data) == (reboot, unicast, initial)


@pytest.mark.req("feat_req_someipsd_42", "feat_req_someipsd_1180")
def test_reserved_flags_and_bytes_are_not_looked_at() -> None:
    assert SdMessage.parse(b"\x1f\xff\xff\xff" + payload()[4:])[0] == SdMessage(unicast=False)


@pytest.mark.parametrize("kind", [0x02, 0x04, 0x05, 0x08, 0xFF])
def test_an_entry_of_unknown_type_is_kept_and_the_next_one_read(kind: int) -> None:
    unknown = UnknownEntry(bytes([kind]) + b"\xff" * 15)
    sd, _ = SdMessage.parse(SdMessage((unknown, OFFER)).build())
    assert sd.entries == (unknown, OFFER)
    assert sd.entries[0].type == kind


@pytest.mark.req("feat_req_someipsd_1142")
def test_an_option_of_unknown_type_is_kept_and_the_next_one_read() -> None:
    both = UnknownOption(0x99, b"??"), LoadBalancingOption(1, 2)
    assert SdMessage.parse(SdMessage(options=both).build())[0].options == both


def test_a_payload_may_end_after_the_entries() -> None:
    whole = SdMessage((OFFER,)).build()
    assert SdMessage.parse(whole[:-4]) == SdMessage.parse(whole)


@pytest.mark.parametrize("left", [1, 2, 3])
def test_half_a_length_of_the_options_is_refused(left: int) -> None:
    with pytest.raises(ParseError) as caught:
        SdMessage.parse(payload()[: 8 + left])
    assert caught.value.path == "sd.options"


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"", "sd.flags"),
        (bytes(4) + (32).to_bytes(4) + bytes(16), "sd.entries"),
        (bytes(4) + b"\xff\xff\xff\xff" + bytes(16), "sd.entries"),
        (payload(entries=bytes(15)), "sd.entries"),
        (payload(entries=bytes(17)), "sd.entries"),
        (payload()[:-4] + (9).to_bytes(4), "sd.options"),
        (payload(options=b"\0"), "sd.options[0].length"),
        (payload(options=b"\0\0"), "sd.options[0].type"),
        (payload(options=bytes.fromhex("0003 99 0000")), "sd.options[0].length"),
        (payload(options=bytes.fromhex("0000 99 0003 04 00 0a4d")), "sd.options[1].address"),
        (payload(options=bytes.fromhex("0008 04 00 0a4d0001 00 11 77")), "sd.options[0].port"),
        (payload(options=bytes.fromhex("000a 04 00 0a4d0001 00 11 772d 00")), "sd.options[0]"),
        (payload(options=bytes.fromhex("0006 02 00 0001 0002 00")), "sd.options[0]"),
        (payload(options=bytes.fromhex("0004 20 00 0001 00")), "sd.options[0]"),
        (payload(options=bytes.fromhex("0007 15 00 91e0f0000001")), "sd.options[0].ether_type"),
        (payload(options=bytes.fromhex("0003 01 00 01 61")), "sd.options[0].strings"),
        (payload(options=bytes.fromhex("0004 01 00 09 61 00")), "sd.options[0].strings"),
    ],
)
def test_damage_is_refused_with_the_path_of_the_field(data: bytes, path: str) -> None:
    with pytest.raises(ParseError) as caught:
        SdMessage.parse(data)
    assert caught.value.path == path


@pytest.mark.req("feat_req_someipsd_1164")
@pytest.mark.parametrize("runs", ["02 00 10", "00 02 01", "00 01 22", "01 00 20", "ff 00 10"])
def test_a_run_beyond_the_options_is_refused(runs: str) -> None:
    good = bytes.fromhex("01 00 00 11") + bytes(12)
    bad = bytes.fromhex("01" + runs) + bytes(12)
    two = bytes.fromhex("0000 99 0000 99")
    assert len(SdMessage.parse(payload(good * 3, two))[0].entries) == 3
    with pytest.raises(ParseError) as caught:
        SdMessage.parse(payload(good + good + bad, two))
    assert caught.value.path == "sd.entries[2].options"


@pytest.mark.req("feat_req_someipsd_343", "feat_req_someipsd_347")
def test_an_empty_run_may_begin_anywhere() -> None:
    entry = bytes.fromhex("01 ff fe 00") + bytes(12)
    sd, _ = SdMessage.parse(payload(entry))
    assert sd.options_of(sd.entries[0]) == ()


def test_runs_of_an_unknown_entry_are_not_looked_at() -> None:
    sd, _ = SdMessage.parse(payload(b"\x09\x00\x00\xff" + bytes(12)))
    assert sd.options_of(sd.entries[0]) == ()


@pytest.mark.req("feat_req_someipsd_684", "feat_req_someipsd_1147")
def test_a_key_that_comes_twice_in_a_configuration_is_kept_twice() -> None:
    """vsomeip refuses the whole option for it."""
    twice = ConfigurationOption(((b"k", b"1"), (b"k", b"2"), (b"k", None)))
    assert SdMessage.parse(SdMessage(options=(twice,)).build())[0].options == (twice,)


@pytest.mark.req("feat_req_someipsd_160", "feat_req_someipsd_217")
def test_a_key_alone_is_not_a_key_with_an_empty_value() -> None:
    alone, empty = (ConfigurationOption(((b"k", value),)) for value in (None, b""))
    both = SdMessage(options=(alone, empty))
    assert SdMessage.parse(both.build())[0].options == (alone, empty)


@pytest.mark.req("feat_req_someipsd_1233")
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "255.255.255.255", "10.77.0.1"])
def test_whether_an_address_may_be_used_is_for_the_receiver_to_say(address: str) -> None:
    """vsomeip refuses its own address and what is outside its netmask, others take them."""
    endpoint = EndpointOption(IPv4Address(address), Protocol.UDP, 30509)
    subscribe = EventgroupEntry(EntryType.SUBSCRIBE, 1, 1, 1, 3, 1, run_1=Run(0, 1))
    sd, _ = SdMessage.parse(SdMessage((subscribe,), (endpoint,)).build())
    assert sd.options_of(sd.entries[0]) == (endpoint,)


@pytest.mark.req("feat_req_someipsd_1142")
@pytest.mark.parametrize("count", range(3))
def test_what_is_unknown_is_kept_byte_for_byte(count: int) -> None:
    entries = b"".join(bytes([kind]) + bytes(range(15)) for kind in (0x02, 0x05, 0xFF)[:count])
    unknown = b"".join(bytes([0, 3, kind, 0x80, 1, 2]) for kind in (0x05, 0x99, 0xFF)[:count])
    data = b"\xe0" + payload(entries, unknown)[1:]
    assert SdMessage.parse(data)[0].build() == data


@pytest.mark.req("feat_req_someipsd_158")
def test_bytes_after_the_end_mark_of_a_configuration_are_ignored() -> None:
    sd, _ = SdMessage.parse(payload(options=bytes.fromhex("0005 01 00 00 ffffff")))
    assert sd.options == (ConfigurationOption(()),)


@pytest.mark.req("feat_req_someipsd_262")
def test_ttl_zero_is_a_stop() -> None:
    stop, _ = SdMessage.parse(payload(bytes.fromhex("01 0000 00 1234 5678 01 000000 00000000")))
    assert stop.entries == (ServiceEntry(EntryType.OFFER, 0x1234, 0x5678, 1, STOP, 0),)


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        (ServiceEntry(1, 0x10000, 0, 0, 0, 0), "sd.entries[0].service_id"),
        (ServiceEntry(1, 0, 0, 0, 0x1000000, 0), "sd.entries[0].ttl"),
        (ServiceEntry(6, 0, 0, 0, 0, 0), "sd.entries[0].type"),
        (ServiceEntry(1, 0, 0, 0, 0, 0, Run(0, 1)), "sd.entries[0].options"),
        (EventgroupEntry(1, 0, 0, 0, 0, 0), "sd.entries[0].type"),
        (EventgroupEntry(6, 0, 0, 0, 0, 0, counter=16), "sd.entries[0].bits.counter"),
        (EventgroupEntry(6, 0, 0, 0, 0, 0, run_2=Run(0, 1)), "sd.entries[0].options"),
        (UnknownEntry(b"short"), "sd.entries[0]"),
    ],
)
def test_an_entry_that_does_not_fit_is_refused_with_its_path(entry: Entry, path: str) -> None:
    with pytest.raises(BuildError) as caught:
        SdMessage((entry,)).build()
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("option", "path"),
    [
        (EndpointOption(V4, 0x11, 0x10000), "sd.options[0].port"),
        (LoadBalancingOption(-1, 0), "sd.options[0].priority"),
        (MacGroupcastOption(b"short", 0, b""), "sd.options[0].address"),
        (UnknownOption(0x100, b""), "sd.options[0].type"),
        (UnknownOption(0x99, bytes(0x10000)), "sd.options[0].length"),
        (ConfigurationOption(((b"k" * 256, None),)), "sd.options[0].strings"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_with_its_path(option: Option, path: str) -> None:
    with pytest.raises(BuildError) as caught:
        SdMessage(options=(option,)).build()
    assert caught.value.path == path


def test_the_largest_run_fits() -> None:
    options = tuple(LoadBalancingOption(i, i) for i in range(30))
    entry = ServiceEntry(1, 0, 0, 0, 0, 0, Run(0, 15), Run(15, 15))
    sd = SdMessage((entry,), options)
    assert SdMessage.parse(sd.build())[0].options_of(entry) == options


def test_a_run_of_sixteen_does_not_fit_its_nibble() -> None:
    options = tuple(LoadBalancingOption(i, i) for i in range(16))
    with pytest.raises(BuildError) as caught:
        SdMessage((ServiceEntry(1, 0, 0, 0, 0, 0, Run(0, 16)),), options).build()
    assert caught.value.path == "sd.entries[0].counts.run_1"


@pytest.mark.req("feat_req_someipsd_109")
def test_subscriptions_differ_by_their_counter() -> None:
    first, second = (
        SdMessage.parse(SdMessage((EventgroupEntry(6, 1, 1, 1, 3, 1, n),)).build())[0]
        for n in (0, 1)
    )
    assert first != second
