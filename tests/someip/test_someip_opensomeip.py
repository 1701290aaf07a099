# SPDX-License-Identifier: Apache-2.0
"""Agreement with opensomeip, the C++ stack of the demo, and the messages it refuses."""

import socket
from collections.abc import Iterator
from queue import Queue
from typing import Any

import opensomeip._opensomeip as cpp
import pytest
from hypothesis import given
from someip_strategies import Blob, blobs, message_bytes

from ivc.someip import (
    TP_FLAG,
    Header,
    Message,
    MessageType,
    ParseError,
    ReturnCode,
    TpHeader,
    TpReassembler,
    parse_datagram,
    segment,
)
from ivc.someip.schema import TP_SIZE

LOCALHOST = "127.0.0.1"


def theirs(data: bytes) -> cpp.Message | None:
    read = cpp.Message()
    return read if read.deserialize(data) else None


def message_from(read: cpp.Message) -> Message:
    """What they read; the TP header they leave in the payload."""
    header = Header(
        read.service_id,
        read.method_id,
        read.client_id,
        read.session_id,
        read.protocol_version,
        read.interface_version,
        read.message_type.value,
        read.return_code.value,
    )
    return Message.parse(header.build(len(read.payload)) + bytes(read.payload))[0]


@given(blobs(60))
def test_messages_are_read_and_built_alike(blob: Blob) -> None:
    kind = (MessageType.REQUEST, MessageType.RESPONSE)[blob.number(2)]
    service, method, client, session, version = blob.numbers(">HHHHB")
    header = Header(service % 0xFFFE + 1, method % 0x7FFE + 1, client, session, 1, version, kind)
    message = Message(header, blob.some(40))
    read = theirs(message.build())
    assert read is not None
    assert message_from(read) == message
    assert bytes(read.serialize()) == message.build()


@given(message_bytes)
def test_bytes_they_accept_are_read_alike(data: bytes) -> None:
    read = theirs(data)
    if read is not None and not is_torn_segment(read):
        assert (message_from(read), b"") == Message.parse(data)


def is_torn_segment(read: cpp.Message) -> bool:
    return bool(read.message_type.value & TP_FLAG) and len(read.payload) < TP_SIZE


@pytest.mark.req("feat_req_someiptp_766")
def test_they_take_a_segment_that_ends_within_its_tp_header_and_we_do_not() -> None:
    data = Header(1, 0, 0, 0, message_type=TP_FLAG).build(TP_SIZE - 1) + bytes(TP_SIZE - 1)
    read = theirs(data)
    assert read is not None and is_torn_segment(read)
    with pytest.raises(ParseError, match="tp: 3 bytes"):
        Message.parse(data)


@pytest.mark.parametrize("code", ReturnCode)
def test_return_codes_have_the_same_names(code: ReturnCode) -> None:
    assert getattr(cpp.ReturnCode, code.name).value == code


class Listener(cpp.ITransportListener):  # type: ignore[misc]  # an untyped extension class
    """Puts into a queue what the stack hands to an application."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: Queue[Message] = Queue()

    def on_message_received(self, message: cpp.Message, _sender: cpp.Endpoint) -> None:
        self.messages.put(message_from(message))

    def on_message_rejected(self, _info: Any) -> None: ...
    def on_connection_lost(self, _endpoint: cpp.Endpoint) -> None: ...
    def on_connection_established(self, _endpoint: cpp.Endpoint) -> None: ...
    def on_error(self, _error: cpp.Result) -> None: ...


@pytest.fixture
def stack() -> Iterator[tuple[cpp.UdpTransport, Listener]]:
    listener = Listener()
    transport = cpp.UdpTransport(cpp.Endpoint(LOCALHOST, 0))
    transport.set_listener(listener)
    assert transport.start() == cpp.Result.SUCCESS
    yield transport, listener
    transport.stop()


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOCALHOST, 0))
        sock.settimeout(10)
        yield sock


@pytest.mark.req("feat_req_someiptp_766", "feat_req_someiptp_785")
@pytest.mark.parametrize("size", [1, 16, 1392, 1393, 20_000])
def test_opensomeip_puts_our_segments_together(
    size: int, stack: tuple[cpp.UdpTransport, Listener], peer: socket.socket
) -> None:
    transport, listener = stack
    large = Message(Header(1, 1, 1, 7), bytes(n % 251 for n in range(size)))
    for one in segment(large):
        peer.sendto(one.build(), (LOCALHOST, transport.get_local_endpoint().port))
    assert listener.messages.get(timeout=10) == large


@pytest.mark.req("feat_req_someiptp_766", "feat_req_someiptp_789")
def test_we_put_the_segments_of_opensomeip_together(
    stack: tuple[cpp.UdpTransport, Listener], peer: socket.socket
) -> None:
    large = cpp.Message(cpp.MessageId(1, 1), cpp.RequestId(1, 7), cpp.MessageType.REQUEST)
    large.payload = bytes(n % 251 for n in range(20_000))
    endpoint = cpp.Endpoint(LOCALHOST, peer.getsockname()[1])
    assert stack[0].send_message(large, endpoint) == cpp.Result.SUCCESS
    tp, whole = TpReassembler(), None
    while whole is None:
        (one,) = parse_datagram(peer.recv(2048))
        whole = tp.add(one)
    assert whole == message_from(large)


# Known disagreements.


def test_opensomeip_takes_tp_messages() -> None:
    """Others refuse them."""
    header = Header(1, 1, 1, 1, message_type=0x20)
    assert theirs(Message(header, b"x" * 16, TpHeader(0, more=True)).build()) is not None


def test_opensomeip_refuses_what_is_left_over_after_a_message() -> None:
    data = Message(Header(1, 1)).build()
    assert theirs(data + data) is None
    assert Message.parse(data + data) == (Message(Header(1, 1)), data)


@pytest.mark.parametrize(
    "header",
    [
        Header(1, 0x8001, message_type=MessageType.NOTIFICATION, return_code=1),
        Header(1, 1, message_type=MessageType.RESPONSE, return_code=0x20),
        Header(0x0000, 1),
        Header(1, 0xFFFF),
        Header(1, 1, message_type=MessageType.NOTIFICATION_ACK),
        Header(1, 1, protocol_version=2),
    ],
    ids=["event with error", "code 0x20", "service 0", "method 0xFFFF", "type 0x42", "version 2"],
)
def test_opensomeip_refuses_what_we_pass_on(header: Header) -> None:
    message = Message(header)
    assert theirs(message.build()) is None
    assert Message.parse(message.build()) == (message, b"")
