# SPDX-License-Identifier: Apache-2.0
"""Names of what is traced: nodes by their addresses, paths, verdicts, faults."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final

from ivc.controller.protocol import Address
from ivc.network.model import Protocol
from ivc.shm.layout import RecordKind, TraceEvent
from ivc.shm.trace import Captured

VERDICTS: Final = {
    TraceEvent.SENT: "sent",
    TraceEvent.NETWORK: "sent",
    TraceEvent.PASSED: "passed",
    TraceEvent.DENIED: "denied",
    TraceEvent.AUDITED: "audited",
    TraceEvent.MIRRORED: "mirrored",
    TraceEvent.ANSWER: "answer",
    TraceEvent.FULL: "full",
    TraceEvent.DROPPED: "dropped",
}
_PATHS: Final = {TraceEvent.SENT: "direct", TraceEvent.NETWORK: "network"}
PATHS: Final = ("direct", "relay", "network")
_FAULTS: Final = ("", "drop", "drop-nth", "delay", "duplicate", "corrupt", "rate", "cut")
"""By bit of a record's `faults`."""


@dataclass(frozen=True, slots=True)
class Names:
    """The nodes of a plan, by address."""

    nodes: Mapping[int, str]

    @classmethod
    def of(cls, plan: Mapping[str, Any]) -> "Names":
        """As in a plan's document."""
        return cls({int(IPv4Address(node["address"])): node["name"] for node in plan["nodes"]})

    def node(self, ip: int) -> str:
        """The node, or the address itself where it is none's."""
        return self.nodes.get(ip) or str(IPv4Address(ip))

    def end(self, end: tuple[int, int]) -> str:
        """An endpoint, with its node if it is one's."""
        name = self.nodes.get(end[0])
        return f"{name} {Address(*end)}" if name else str(Address(*end))


def path_of(at: Captured) -> str:
    """How it travels."""
    return _PATHS.get(TraceEvent(at.event), "relay") if at.event in VERDICTS else "relay"


def verdict_of(at: Captured) -> str:
    """What has become of it."""
    return VERDICTS[TraceEvent(at.event)] if at.event in VERDICTS else "?"


def protocol_of(at: Captured) -> Protocol:
    """UDP or TCP."""
    return Protocol.TCP if at.kind == RecordKind.STREAM else Protocol.UDP


def faults_of(at: Captured) -> list[str]:
    """What faults have done to it."""
    return [name for bit, name in enumerate(_FAULTS) if bit and at.faults >> bit & 1]
