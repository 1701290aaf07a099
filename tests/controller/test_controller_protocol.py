# SPDX-License-Identifier: Apache-2.0
"""Control messages: the declaration in Python is the one in C."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivc.controller import protocol
from ivc.controller.errors import MessageError
from ivc.controller.protocol import Address, Message, Type
from ivc.reasons import Reason
from ivc.shm.library import ffi, lib

U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
ADDRESSES = st.builds(Address, U32, U16)
MESSAGES = st.builds(
    Message, st.sampled_from(Type), U32, U32, U32, ADDRESSES, ADDRESSES, U32, U32, U64, U32
)


def offsets(layout: object, prefix: str = "", start: int = 0) -> dict[str, tuple[int, int]]:
    """Offset and size of every field of a construct, inner ones with dots."""
    found: dict[str, tuple[int, int]] = {}
    for field in layout.subcons:  # type: ignore[attr-defined]
        found[f"{prefix}{field.name}"] = start, field.sizeof()
        if hasattr(field.subcon, "subcons"):
            found |= offsets(field.subcon, f"{prefix}{field.name}.", start)
        start += field.sizeof()
    return found


def c_offsets(struct: str, prefix: str = "", start: int = 0) -> dict[str, tuple[int, int]]:
    """The same of a C struct."""
    found: dict[str, tuple[int, int]] = {}
    for name, field in ffi.typeof(struct).fields:
        at = start + field.offset
        found[f"{prefix}{name}"] = at, ffi.sizeof(field.type)
        if field.type.kind == "struct":
            found |= c_offsets(field.type.cname, f"{prefix}{name}.", at)
    return found


def test_layout_is_that_of_the_c_header() -> None:
    assert offsets(protocol.LAYOUT) == c_offsets("struct ivc_msg")
    assert protocol.LAYOUT.sizeof() == lib.IVC_MSG_SIZE == protocol.MESSAGE_SIZE


@pytest.mark.parametrize(
    ("ours", "enum", "prefix"),
    [
        (protocol.Type, "enum ivc_msg_type", "IVC_MSG_"),
        (Reason, "enum ivc_reason", "IVC_REASON_"),
        (protocol.Role, "enum ivc_role", "IVC_ROLE_"),
    ],
)
def test_numbers_are_those_of_the_c_header(ours: type, enum: str, prefix: str) -> None:
    theirs = ffi.typeof(enum).relements
    assert {f"{prefix}{name}": value for name, value in ours.__members__.items()} == theirs


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (protocol.VERSION, "IVC_PROTOCOL_VERSION"),
        (protocol.MAX_FDS, "IVC_MSG_MAX_FDS"),
        (protocol.SocketFlag.REUSE, "IVC_SOCK_REUSE"),
        (protocol.SocketFlag.MC_ALL, "IVC_SOCK_MC_ALL"),
        (protocol.SocketFlag.MC_LOOP, "IVC_SOCK_MC_LOOP"),
        (protocol.SocketFlag.STREAM, "IVC_SOCK_STREAM"),
        (protocol.FLOW_RELAY, "IVC_FLOW_RELAY"),
        (protocol.FLOW_STREAM, "IVC_FLOW_STREAM"),
        (protocol.ROUTE_COMPLETE, "IVC_ROUTE_COMPLETE"),
        (protocol.TRACE_ALL, "IVC_TRACE_ALL"),
    ],
)
def test_constants_are_those_of_the_c_header(ours: int, theirs: str) -> None:
    assert ours == getattr(lib, theirs)


@given(MESSAGES)
def test_what_is_packed_is_parsed(message: Message) -> None:
    assert Message.parse(message.pack()) == message


@given(MESSAGES)
def test_what_is_packed_is_what_is_declared(message: Message) -> None:
    raw = protocol.LAYOUT.parse(message.pack())
    assert (raw.version, raw.type, raw.reserved) == (protocol.VERSION, message.type, bytes(12))
    for name in ("socket", "flow", "node", "flags", "reason", "arg", "pid"):
        assert raw[name] == getattr(message, name)
    for name in ("local", "peer"):
        assert Address(raw[name].ip, raw[name].port) == getattr(message, name)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_message_or_an_error(packet: bytes) -> None:
    try:
        Message.parse(packet)
    except MessageError:
        pass
    else:
        assert len(packet) == protocol.MESSAGE_SIZE


@given(MESSAGES, U16.filter(lambda version: version != protocol.VERSION))
def test_another_version_is_refused(message: Message, version: int) -> None:
    with pytest.raises(MessageError, match="version"):
        Message.parse(version.to_bytes(2, "little") + message.pack()[2:])


@pytest.mark.parametrize("kind", protocol.FROM_CONTROLLER)
def test_a_wrapper_cannot_speak_for_the_controller(kind: Type) -> None:
    with pytest.raises(MessageError, match="not for this side"):
        Message.parse(Message(kind).pack(), protocol.FROM_WRAPPER)
