# SPDX-License-Identifier: Apache-2.0
"""What build/pingpong does, as asyncio programs do it: datagram protocols, streams.

    python -m bench.asyncio_pingpong server ADDRESS PORT [options]
    python -m bench.asyncio_pingpong client ADDRESS PORT SERVER PORT [options]

It knows nothing of IVC. Options and what is printed are those of bench/pingpong.c, as far as they
are about round trips.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from typing import cast

_ANSWER_SECONDS = 1.0

Place = tuple[str, int]
Call = Callable[[bytes], Awaitable[bytes]]


class Echo(asyncio.DatagramProtocol):
    """Answers every datagram with itself."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Place) -> None:
        self._transport.sendto(data, addr)


class Caller(Echo):
    """Has one call under way; calls without an answer in a second or two end with TimeoutError."""

    def __init__(self, server: Place) -> None:
        self.strange = 0
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[bytes] = self._loop.create_future()
        self._answer.set_result(b"")  # nobody waits for one yet
        self._seen = self._answer
        self._look()

    async def call(self, data: bytes) -> bytes:
        """Send, and wait for what comes back."""
        self._answer = self._loop.create_future()
        self._transport.sendto(data, self._server)
        return await self._answer

    def datagram_received(self, data: bytes, addr: Place) -> None:
        if self._answer.done():
            self.strange += 1
        else:
            self._answer.set_result(data)

    def _look(self) -> None:
        """A timer for each call would be much of its time."""
        if self._seen is self._answer and not self._answer.done():
            self._answer.set_exception(TimeoutError())
        self._seen = self._answer
        self._loop.call_later(_ANSWER_SECONDS, self._look)


async def _echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    await asyncio.Event().wait()  # what was counted of it is still to be read


async def _serve(options: argparse.Namespace, here: Place) -> None:
    if options.tcp:
        await asyncio.start_server(_echo_stream, *here)
    else:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(Echo, local_addr=here)
    print("ready", flush=True)
    await asyncio.Event().wait()


async def _call(options: argparse.Namespace, here: Place, there: Place) -> None:
    if options.tcp:
        reader, writer = await asyncio.open_connection(*there, local_addr=(here[0], 0))

        async def over_stream(data: bytes) -> bytes:
            writer.write(data)
            return await reader.readexactly(len(data))

        await _measure(options, over_stream, lambda: 0)
    else:
        loop = asyncio.get_running_loop()
        _, caller = await loop.create_datagram_endpoint(lambda: Caller(there), local_addr=here)
        await _measure(options, caller.call, lambda: caller.strange)


async def _measure(options: argparse.Namespace, call: Call, late: Callable[[], int]) -> None:
    for number in range(options.warm):
        await _round_trip(call, number, options.size)
    took: list[float] = []
    lost = strange = 0
    begin, spent = time.monotonic(), _cpu_seconds(options.peer)
    for number in range(options.count):
        if options.pause:
            await asyncio.sleep(options.pause / 1e6)
        start = time.perf_counter()
        answered = await _round_trip(call, number, options.size)
        if answered is None:
            lost += 1
        else:
            took.append(time.perf_counter() - start)
            strange += not answered
    wall, cpu = time.monotonic() - begin, _cpu_seconds(options.peer) - spent
    report = {
        "sent": options.count,
        "received": len(took),
        "lost": lost,
        "strange": strange + late(),
        "rtt_us": _percentiles(took),
        "msgs_per_s": 2 * len(took) / wall,
        "cpu_us_per_msg": cpu * 1e6 / max(1, 2 * len(took)),
    }
    print(json.dumps(report), flush=True)


async def _round_trip(call: Call, number: int, size: int) -> bool | None:
    """Whether the answer is the request; None: there was none."""
    data = number.to_bytes(4, "little").ljust(size, b"\0")
    try:
        return await call(data) == data
    except TimeoutError:
        return None


def _percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds) or [0.0]
    return {f"p{share}": ordered[len(ordered) * share // 100] * 1e6 for share in (50, 90, 99)}


def _cpu_seconds(peer: int) -> float:
    """Of this process and the other side."""
    other = time.clock_gettime(~peer << 3 | 2) if peer else 0.0  # see clock_getcpuclockid(3)
    return time.process_time() + other


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="asyncio_pingpong.py", description=__doc__)
    parser.add_argument("side", choices=("server", "client"))
    parser.add_argument("places", nargs="+")
    parser.add_argument("--tcp", action="store_true")
    for name in ("cpu", "count", "pause", "size", "warm", "peer"):
        parser.add_argument(f"--{name}", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """The command line."""
    options = _options()
    os.sched_setaffinity(0, {options.cpu})
    words = options.places
    places = [(words[at], int(words[at + 1])) for at in range(0, len(words), 2)]
    asyncio.run(_serve(options, *places) if options.side == "server" else _call(options, *places))


if __name__ == "__main__":
    main()
