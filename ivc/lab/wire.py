# SPDX-License-Identifier: Apache-2.0
"""Counts what crosses the bridge, independently of every counter of IVC.

`python -m ivc.lab.wire PORT...` runs in dom0's namespace and looks at every
frame that enters the bridge through the ports named. Each line on standard
input is answered with one JSON line; end of input ends it:

    {"udp_packets": 12, "udp_bytes": 960, "other_packets": 3, "tcp_bytes": 64, "drops": 0}

`udp_bytes` is UDP payload, fragments count too; `tcp_bytes` that of TCP among the others.
`drops` is what the kernel had no room for: figures with drops are not exact and the reader must
say so.

The kernel gathers frames in a TPACKET_V3 ring (PACKET_RX_RING, see packet(7))
and hands them over in blocks a few times a second: watching must not slow down
what is measured.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from ivc.lab.hosts import Host, LabError, stop

_BLOCK_BYTES = 1 << 18
_BLOCKS = 64
_FRAME_BYTES = 256
_RETIRE_MS = 50
"""After this long the kernel hands a block over though it is not full."""

# <linux/if_packet.h>, <linux/if_ether.h>
_SOL_PACKET = 263
_PACKET_RX_RING = 5
_PACKET_STATISTICS = 6
_PACKET_VERSION = 10
_PACKET_IGNORE_OUTGOING = 23
_TPACKET_V3 = 2
_ETH_P_ALL = 3
_TP_STATUS_USER = 1

_REQUEST = struct.Struct("=7I")  # struct tpacket_req3
_BLOCK = struct.Struct("=2I3I")  # version, offset_to_priv, status, num_pkts, offset_first
_STATUS = struct.Struct("=I")
_FRAME = struct.Struct("=6I2H")  # next, sec, nsec, snaplen, len, status, mac, net
_STATISTICS = struct.Struct("=3I")  # struct tpacket_stats_v3
_STATUS_AT = 8

_ETHERNET_BYTES = 14
_PROTOCOL_TCP = 6
_PROTOCOL_UDP = 17
_UDP_HEADER_BYTES = 8


@dataclass(slots=True)
class Counts:
    """What has entered the bridge so far."""

    udp_packets: int = 0
    udp_bytes: int = 0
    other_packets: int = 0
    tcp_bytes: int = 0
    drops: int = 0

    def add_frame(self, frame: memoryview) -> None:
        """Count one Ethernet frame (its first bytes are enough)."""
        ip = frame[_ETHERNET_BYTES:]
        if bytes(frame[12:14]) != b"\x08\x00" or len(ip) < 20 or ip[9] != _PROTOCOL_UDP:
            self.other_packets += 1
            if bytes(frame[12:14]) == b"\x08\x00" and len(ip) >= 20 and ip[9] == _PROTOCOL_TCP:
                self._add_segment(ip)
            return
        offset = int.from_bytes(ip[6:8]) & 0x1FFF
        self.udp_packets += 1
        self.udp_bytes += _behind_ip(ip)
        if offset == 0:  # only the first fragment has a UDP header
            self.udp_bytes -= _UDP_HEADER_BYTES

    def _add_segment(self, ip: memoryview) -> None:
        tcp = ip[(ip[0] & 0x0F) * 4 :]
        if len(tcp) >= 20:
            self.tcp_bytes += _behind_ip(ip) - (tcp[12] >> 4) * 4


def _behind_ip(ip: memoryview) -> int:
    return int.from_bytes(ip[2:4]) - (ip[0] & 0x0F) * 4


class PortCounter:
    """The frames that enter one bridge port, from the moment of creation on."""

    def __init__(self, port: str) -> None:
        # Protocol 0 until everything is set: nothing arrives half-configured.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        frames = _BLOCK_BYTES // _FRAME_BYTES * _BLOCKS
        request = _REQUEST.pack(_BLOCK_BYTES, _BLOCKS, _FRAME_BYTES, frames, _RETIRE_MS, 0, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
        self._ring = memoryview(mmap.mmap(self._socket.fileno(), _BLOCK_BYTES * _BLOCKS))
        self._next = 0
        self._socket.bind((port, _ETH_P_ALL))

    def fileno(self) -> int:
        """For poll(): readable when a block is ready."""
        return self._socket.fileno()

    def drain(self, counts: Counts) -> None:
        """Count every block the kernel has handed over and give it back."""
        while True:
            at = self._next * _BLOCK_BYTES
            block = self._ring[at : at + _BLOCK_BYTES]
            (status,) = _STATUS.unpack_from(block, _STATUS_AT)
            if not status & _TP_STATUS_USER:
                break
            for frame in _frames(block):
                counts.add_frame(frame)
            _STATUS.pack_into(block, _STATUS_AT, 0)
            self._next = (self._next + 1) % _BLOCKS
        counts.drops += self._drops()

    def _drops(self) -> int:
        """Frames lost since the last call (reading clears the kernel's figure)."""
        raw = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        return int(_STATISTICS.unpack(raw)[1])


def _frames(block: memoryview) -> Iterator[memoryview]:
    _, _, _, number, at = _BLOCK.unpack_from(block)
    for _ in range(number):
        following, _, _, captured, _, _, mac, _ = _FRAME.unpack_from(block, at)
        yield block[at + mac : at + mac + captured]
        at += following


class WireCounter:
    """The counting process, as the laboratory sees it. Use as a context manager.

    Raises LabError when it cannot look at the bridge.
    """

    def __init__(self, bridge: Host, ports: list[str]) -> None:
        self._process = bridge.popen(
            [sys.executable, "-m", "ivc.lab.wire", *ports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    @property
    def pid(self) -> int:
        """Of the counting process."""
        return self._process.pid

    def __enter__(self) -> WireCounter:
        try:
            self.read()  # answers only once it listens
        except BaseException:
            stop(self._process)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._process)

    def read(self) -> Counts:
        """Everything that entered the bridge before this call."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write("read\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise LabError("the counter on the bridge has ended; see its message above")
        return Counts(**json.loads(line))


def main(ports: list[str]) -> None:
    """Serve counts until standard input ends."""
    counters = [PortCounter(port) for port in ports]
    counts = Counts()
    poller = select.poll()
    poller.register(sys.stdin.fileno(), select.POLLIN)
    for counter in counters:
        poller.register(counter.fileno(), select.POLLIN)
    while True:
        asked = any(fd == sys.stdin.fileno() for fd, _ in poller.poll())
        if asked and not os.read(sys.stdin.fileno(), 4096):
            return
        if asked:
            # What is on the wire now sits in a block the kernel has yet to retire.
            select.select([], [], [], 3 * _RETIRE_MS / 1000)
        for counter in counters:
            counter.drain(counts)
        if asked:
            print(json.dumps(asdict(counts)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
