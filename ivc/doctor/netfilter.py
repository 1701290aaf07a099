# SPDX-License-Identifier: Apache-2.0
"""What a listing of libnftables (JSON) does to a packet, as far as that can be told from it.

Names of the listing: libnftables-json(5). What is not understood may match or not; so what a
packet meets is certain or possible.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from ivc.doctor.packets import Packet

Thing = Mapping[str, Any]

_DEPTH_MOST: Final = 16  # nft's own limit of jumps
_HARMLESS: Final = frozenset({"counter", "log", "notrack", "mangle", "set", "ct helper"})
_STRANGE: Final = frozenset({"xt", "queue"})
"""May be a verdict that is not told: what iptables has made, or a program's."""
_ENDS: Final = frozenset({"accept", "drop", "reject", "return", "jump", "goto"})


NEVER: Final = object()
"""What a packet has in a field of a protocol it is not of."""


class Sure(Enum):
    """Whether a rule matches."""

    NO = 0
    PERHAPS = 1
    YES = 2


@dataclass(frozen=True, slots=True)
class Drop:
    """Where a packet is dropped: a rule by its handle, or None, by the chain's policy."""

    family: str
    table: str
    chain: str
    handle: int | None
    certain: bool

    def __str__(self) -> str:
        rule = f"handle {self.handle}" if self.handle is not None else "policy drop"
        return f"nftables {self.family} {self.table} {self.chain}, {rule}"

    @property
    def fix(self) -> str:
        """How to be rid of it."""
        place = f"{self.family} {self.table} {self.chain}"
        if self.handle is not None:
            return f"nft delete rule {place} handle {self.handle}"
        return f"nft add rule {place} accept, with what is to match before it"


class Ruleset:
    """A listing, looked at from one packet's side after the other."""

    def __init__(self, listed: Sequence[Thing]) -> None:
        self._chains: list[Thing] = []
        self._rules: dict[tuple[str, str, str], list[Thing]] = {}
        self._sets: dict[tuple[str, str, str], Any] = {}
        for thing in listed:
            for kind, one in thing.items():
                if kind == "chain":
                    self._chains.append(one)
                elif kind == "rule":
                    key = (one["family"], one["table"], one["chain"])
                    self._rules.setdefault(key, []).append(one)
                elif kind == "set":
                    self._sets[one["family"], one["table"], one["name"]] = one.get("elem", [])

    def drops(
        self, packet: Packet, hooks: Sequence[str], families: Sequence[str]
    ) -> Iterator[Drop]:
        """Where it ends, or may end; our own table is not among these."""
        for chain in self._chains:
            ours = (chain["family"], chain["table"]) == ("bridge", "ivc")
            hooked = chain.get("hook") in hooks and chain["family"] in families
            if hooked and not ours and _is_at(chain.get("dev"), packet):
                yield from _Walk(self, packet, chain).base()

    def rules(self, chain: Thing) -> list[Thing]:
        """Of a chain."""
        return self._rules.get((chain["family"], chain["table"], chain.get("name", "")), [])

    def elements(self, chain: Thing, name: str) -> Any:
        """Of a named set; None if there is no such."""
        return self._sets.get((chain["family"], chain["table"], name))


def _is_at(device: Any, packet: Packet) -> bool:
    """Whether a chain sees the packet; those of family netdev are at one interface, or several."""
    devices = device if isinstance(device, list) else [device]
    return any(one in (None, packet.comes_by, packet.goes_by) for one in devices)


class _Walk:
    """One packet through one base chain."""

    def __init__(self, ruleset: Ruleset, packet: Packet, chain: Thing) -> None:
        self._ruleset = ruleset
        self._packet = packet
        self._base = chain
        self._drops: list[Drop] = []

    def base(self) -> list[Drop]:
        """All drops on the way."""
        over, certain = self._chain(self._base, True, 0)
        if not over and self._base.get("policy") == "drop":
            self._note(self._base["name"], None, certain)
        return self._drops

    def _chain(self, chain: Thing, certain: bool, depth: int) -> tuple[bool, bool]:
        """Whether the packet's way ends here, and whether it certainly goes on as far as this."""
        for rule in self._ruleset.rules(chain):
            sure, verdict, target = self._understood(rule)
            if sure is Sure.NO or verdict is None:
                certain = certain and sure is not Sure.PERHAPS
                continue
            here = certain and sure is Sure.YES
            if verdict in {"drop", "reject"}:
                self._note(rule["chain"], rule["handle"], here)
                over = True
            elif verdict in {"jump", "goto"}:
                over, certain = self._jump(chain, target, here, certain, depth)
                if verdict == "goto" and sure is Sure.YES and not over:
                    return False, certain
            elif verdict == "return":
                if sure is Sure.YES:
                    return False, certain
                over, certain = False, False
            else:
                over, certain = True, certain and sure is Sure.YES
            if over and sure is Sure.YES:
                return True, certain
        return False, certain

    def _jump(
        self, chain: Thing, target: str, here: bool, certain: bool, depth: int
    ) -> tuple[bool, bool]:
        if depth == _DEPTH_MOST:
            return False, False
        inner = {**chain, "name": target}
        over, after = self._chain(inner, here, depth + 1)
        return over, after if here else certain and not self._ruleset.rules(inner)

    def _note(self, chain: str, handle: int | None, certain: bool) -> None:
        base = self._base
        self._drops.append(Drop(base["family"], base["table"], chain, handle, certain))

    def _understood(self, rule: Thing) -> tuple[Sure, str | None, str]:
        """What a later libnftables may list in another shape is not understood."""
        try:
            return self._rule(rule)
        except (LookupError, TypeError, ValueError, AttributeError):
            return Sure.PERHAPS, None, ""

    def _rule(self, rule: Thing) -> tuple[Sure, str | None, str]:
        """Whether it matches, its verdict, and where to."""
        sure, strange = Sure.YES, False
        for statement in rule["expr"]:
            ((kind, value),) = statement.items()
            if kind == "match":
                sure = min(sure, self._match(value), key=lambda s: s.value)
            elif kind in _ENDS:
                return sure, kind, _target(value)
            elif kind == "vmap":
                return self._vmap(sure, value)
            elif kind not in _HARMLESS:
                strange = strange or kind in _STRANGE
                sure = min(sure, Sure.PERHAPS, key=lambda s: s.value)
            if sure is Sure.NO:
                return sure, None, ""
        return (Sure.PERHAPS if strange else Sure.YES), None, ""

    def _vmap(self, sure: Sure, value: Thing) -> tuple[Sure, str | None, str]:
        """A verdict for each value, where they stand in the rule itself."""
        actual = self._actual(value["key"])
        data = value["data"]
        for key, verdict in data["set"] if isinstance(data, dict) and "set" in data else ():
            found = _equals(actual, key, lambda name: None)
            if found is not Sure.NO and isinstance(verdict, dict):
                ((kind, there),) = verdict.items()
                both = min(sure, found, key=lambda s: s.value)
                return both, kind, _target(there)
        return (Sure.PERHAPS if isinstance(data, str) else Sure.NO), None, ""

    def _match(self, match: Thing) -> Sure:
        if match["op"] not in {"==", "!=", "in"}:
            return Sure.PERHAPS
        actual = self._actual(match["left"])
        found = _equals(
            actual, match["right"], lambda name: self._ruleset.elements(self._base, name)
        )
        if match["op"] == "!=" and actual is not NEVER:
            return Sure(2 - found.value)
        return found

    def _actual(self, left: Any) -> Any:
        """What the packet has there; None: unknown; NEVER: it has no such field."""
        packet = self._packet
        kind, what = next(iter(left.items())) if isinstance(left, dict) and left else ("", None)
        if not isinstance(what, dict):
            return None
        if kind == "payload" and "protocol" in what:
            return self._payload(what["protocol"], what["field"])
        if kind == "ct":
            return "new" if what.get("key") == "state" else None
        known = {
            "l4proto": str(packet.destination.protocol),
            "iifname": packet.comes_by,
            "iif": packet.comes_by,
            "oifname": packet.goes_by,
            "oif": packet.goes_by,
            "nfproto": "ipv4",
            "protocol": "ip",
        }
        return known.get(what.get("key", "")) if kind == "meta" else None

    def _payload(self, protocol: str, name: str) -> Any:
        packet = self._packet
        end = packet.destination
        if protocol == "ip":
            own = {"saddr": packet.source, "daddr": end.address, "protocol": str(end.protocol)}
            return own.get(name)
        if protocol in {str(end.protocol), "th"}:
            return {"sport": packet.source_port, "dport": end.port}.get(name)
        return NEVER if protocol in {"tcp", "udp", "ip6", "arp", "icmp", "icmpv6", "vlan"} else None


def _target(verdict: Any) -> str:
    """Where a jump goes."""
    return str(verdict.get("target", "")) if isinstance(verdict, dict) else ""


def _equals(actual: Any, right: Any, elements: Any) -> Sure:
    """Whether a value is, or is among, what a rule names."""
    if actual is NEVER:
        return Sure.NO
    if isinstance(right, str) and right.startswith("@"):
        right = elements(right[1:])
        return _any(actual, right, elements) if isinstance(right, list) else Sure.PERHAPS
    if isinstance(right, list):
        return _any(actual, right, elements)
    if actual is None:
        return Sure.PERHAPS
    if isinstance(right, dict):
        return _composed(actual, right, elements)
    return Sure.YES if _same(actual, right) else Sure.NO


def _composed(actual: Any, right: Thing, elements: Any) -> Sure:
    if "set" in right:
        return _any(actual, right["set"], elements)
    if "elem" in right:
        return _equals(actual, right["elem"]["val"], elements)
    if "prefix" in right and isinstance(actual, IPv4Address):
        network = IPv4Network((right["prefix"]["addr"], right["prefix"]["len"]), strict=False)
        return Sure.YES if actual in network else Sure.NO
    if "range" in right:
        low, high = right["range"]
        if isinstance(actual, IPv4Address):
            low, high = IPv4Address(low), IPv4Address(high)
        return Sure.YES if type(low) is type(actual) and low <= actual <= high else Sure.NO
    return Sure.PERHAPS


def _any(actual: Any, rights: Any, elements: Any) -> Sure:
    """The best of all."""
    found = [_equals(actual, right, elements) for right in (rights if rights else ())]
    return max(found, key=lambda sure: sure.value, default=Sure.NO)


def _same(actual: Any, right: Any) -> bool:
    if isinstance(right, str) and right.endswith("*"):
        return str(actual).startswith(right[:-1])
    return str(actual) == str(right)
