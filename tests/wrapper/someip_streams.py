# SPDX-License-Identifier: Apache-2.0
"""Third-party SOME/IP stacks over TCP: one call after the other, each answered with its payload.

Arguments: opensomeip or pysomeip; server or client; own address; then the server's port, or the
server's address, port, and how many calls. A server says "ready" and ends with its input.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable

import opensomeip._opensomeip as stack
from someip.header import SOMEIPHeader, SOMEIPMessageType, SOMEIPReader

from ivc.lab.peers.opensomeip_client import Listener

SERVICE, METHOD = 0x1001, 0x0421
PATIENCE_S = 5.0


def report(right: int, count: int) -> None:
    """Say how many calls went well; the connection stays until our input ends."""
    print(f"{right} of {count}", flush=True)
    sys.stdin.read()


def payload(number: int) -> bytes:
    return number.to_bytes(4, "big") * (1 + number * 7 % 300)


# ---- opensomeip -------------------------------------------------------------


class Heard(Listener):
    """Hands every message on."""

    def __init__(self, heard: Callable[[stack.Message, stack.Endpoint], None]) -> None:
        super().__init__()
        self._heard = heard

    def on_message_received(self, message: stack.Message, sender: stack.Endpoint) -> None:
        self._heard(message, sender)


def opensomeip_server(own: str, port: int) -> None:
    transport = stack.TcpTransport()

    def answer(message: stack.Message, sender: stack.Endpoint) -> None:
        kind = stack.MessageType.RESPONSE
        response = stack.Message(message.message_id, message.request_id, kind)
        response.payload = bytes(message.payload)
        transport.send_message(response, sender)

    listener = Heard(answer)
    transport.set_listener(listener)
    at = stack.Endpoint(own, port, stack.TransportProtocol.TCP)
    results = [transport.initialize(at), transport.enable_server_mode(5), transport.start()]
    assert results == [stack.Result.SUCCESS] * 3, results
    print("ready", flush=True)
    sys.stdin.read()
    transport.stop()


def opensomeip_client(own: str, host: str, port: int, count: int) -> None:
    transport = stack.TcpTransport()
    answers: list[bytes] = []
    came = threading.Semaphore(0)

    def heard(message: stack.Message, _sender: stack.Endpoint) -> None:
        answers.append(bytes(message.payload))
        came.release()

    listener = Heard(heard)
    transport.set_listener(listener)
    server = stack.Endpoint(host, port, stack.TransportProtocol.TCP)
    transport.initialize(stack.Endpoint(own, 0, stack.TransportProtocol.TCP))
    results = [transport.start(), transport.connect(server)]
    assert results == [stack.Result.SUCCESS] * 2, results
    right = 0
    for number in range(count):
        ids = stack.MessageId(SERVICE, METHOD), stack.RequestId(1, number % 0xFFFF + 1)
        request = stack.Message(*ids)
        request.payload = payload(number)
        transport.send_message(request, server)
        if not came.acquire(timeout=PATIENCE_S):
            break
        right += answers.pop() == payload(number)
    report(right, count)
    transport.stop()


# ---- pysomeip ---------------------------------------------------------------


def header(number: int, kind: SOMEIPMessageType, data: bytes) -> bytes:
    built: bytes = SOMEIPHeader(
        service_id=SERVICE,
        method_id=METHOD,
        client_id=1,
        session_id=number % 0xFFFF + 1,
        interface_version=1,
        message_type=kind,
        payload=data,
    ).build()
    return built


async def pysomeip_server(own: str, port: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        messages = SOMEIPReader(reader)
        while (message := await messages.read()) is not None:
            kind = SOMEIPMessageType.RESPONSE
            writer.write(header(message.session_id - 1, kind, message.payload))
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, own, port):
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def pysomeip_client(own: str, host: str, port: int, count: int) -> None:
    reader, writer = await asyncio.open_connection(host, port, local_addr=(own, 0))
    messages = SOMEIPReader(reader)
    right = 0
    for number in range(count):
        writer.write(header(number, SOMEIPMessageType.REQUEST, payload(number)))
        answer = await asyncio.wait_for(messages.read(), PATIENCE_S)
        right += answer is not None and bytes(answer.payload) == payload(number)
    report(right, count)
    writer.close()


def main() -> None:
    which, role, own, *rest = sys.argv[1:]
    if role == "server":
        port = int(rest[0])
        if which == "opensomeip":
            opensomeip_server(own, port)
        else:
            asyncio.run(pysomeip_server(own, port))
        return
    host, port, count = rest[0], int(rest[1]), int(rest[2])
    if which == "opensomeip":
        opensomeip_client(own, host, port, count)
    else:
        asyncio.run(pysomeip_client(own, host, port, count))


if __name__ == "__main__":
    main()
