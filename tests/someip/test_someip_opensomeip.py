# SPDX-License-Identifier: Apache-2.0
"""Agreement with opensomeip, the C++ stack of the demo, and the messages it refuses."""

import opensomeip._opensomeip as cpp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from someip_strategies import u8, u16

from ivc.someip import Header, Message, MessageType, TpHeader

plain_headers = st.builds(
    Header,
    st.integers(1, 0xFFFE),
    st.integers(1, 0x7FFE),
    u16,
    u16,
    st.just(1),
    u8,
    st.sampled_from([MessageType.REQUEST, MessageType.RESPONSE]),
)


def theirs(message: Message) -> cpp.Message | None:
    read = cpp.Message()
    return read if read.deserialize(message.build()) else None


@given(st.builds(Message, plain_headers, st.binary(max_size=64)))
def test_messages_are_read_and_built_alike(message: Message) -> None:
    read = theirs(message)
    assert read is not None
    assert (read.service_id, read.method_id) == (
        message.header.service_id,
        message.header.method_id,
    )
    assert (read.client_id, read.session_id) == (
        message.header.client_id,
        message.header.session_id,
    )
    assert bytes(read.payload) == message.payload
    assert bytes(read.serialize()) == message.build()


def test_opensomeip_takes_tp_messages() -> None:
    header = Header(1, 1, 1, 1, message_type=0x20)
    assert theirs(Message(header, b"x" * 16, TpHeader(0, more=True))) is not None


@pytest.mark.parametrize(
    "header",
    [
        Header(1, 0x8001, message_type=MessageType.NOTIFICATION, return_code=1),
        Header(1, 1, message_type=MessageType.RESPONSE, return_code=0x20),
        Header(0x0000, 1),
        Header(1, 0xFFFF),
        Header(1, 1, message_type=MessageType.NOTIFICATION_ACK),
    ],
    ids=["event with error", "code 0x20", "service 0", "method 0xFFFF", "type 0x42"],
)
def test_opensomeip_refuses_what_we_pass_on(header: Header) -> None:
    message = Message(header)
    assert theirs(message) is None
    assert Message.parse(message.build()) == (message, b"")
