# SPDX-License-Identifier: Apache-2.0
"""tp_peer.py server COUNT ADDRESS | client COUNT ADDRESS PEER: opensomeip cuts long messages.

The client sends COUNT requests in segments, each when the answer to the one before is there; the
server puts them together and answers with their lengths. Either prints how many segments it had.
"""

from __future__ import annotations

import dataclasses
import socket
import sys

import opensomeip._opensomeip as stack

from ivc import someip
from ivc.lab.peers import common

LENGTH = 5000
PATIENCE_S = 20.0
LARGEST = 65535


def opened(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))
    sock.settimeout(PATIENCE_S)
    return sock


def segments(session: int) -> list[bytes]:
    message = stack.Message(
        stack.MessageId(common.SERVICE, common.METHOD), stack.RequestId(1, session)
    )
    message.payload = bytes(LENGTH)
    manager = stack.tp.TpManager(stack.tp.TpConfig())  # one has room for some transfers only
    assert manager.initialize()
    result, transfer = manager.segment_message(message)
    assert result == stack.tp.TpResult.SUCCESS, result
    cut = []
    while segment := bytes(manager.get_next_segment(transfer)[1].payload):
        cut.append(segment)
    return cut


def call(address: str, peer: str, count: int) -> int:
    """How many segments were sent."""
    sock = opened(address, common.CLIENT_PORT)
    sent = 0
    for session in range(1, count + 1):
        for segment in segments(session):
            sock.sendto(segment, (peer, common.SERVER_PORT))
            sent += 1
        answer, _ = someip.Message.parse(sock.recv(LARGEST))
        assert int(answer.payload) == LENGTH, answer
    return sent


def serve(address: str, count: int) -> int:
    """How many segments were received."""
    sock = opened(address, common.SERVER_PORT)
    print("ready", flush=True)
    got = have = 0
    while count:
        data, client = sock.recvfrom(LARGEST)
        segment, _ = someip.Message.parse(data)
        assert segment.tp is not None and segment.tp.offset == have
        got += 1
        have += len(segment.payload)
        if not segment.tp.more:
            sock.sendto(answer_to(segment.header, str(have).encode()), client)
            count, have = count - 1, 0
    return got


def answer_to(request: someip.Header, payload: bytes) -> bytes:
    header = dataclasses.replace(request, message_type=someip.MessageType.RESPONSE)
    return header.build(len(payload)) + payload


def main(role: str, count: str, address: str, peer: str = "") -> None:
    server = role == "server"
    had = serve(address, int(count)) if server else call(address, peer, int(count))
    print(had, flush=True)


main(*sys.argv[1:])
