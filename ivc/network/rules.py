# SPDX-License-Identifier: Apache-2.0
"""`[[rule]]` of the mapping: what becomes of which messages. The first that matches counts.

[[rule]]
from = "hmi"                   # nodes; what is left out is any
to = "adas"
service = 0x1234
instance = 0x0001              # needs service: no message names its instance
method = 0x0421                # a method or an event
client = 0x0100
type = "REQUEST"               # REQUEST | REQUEST_NO_RETURN | NOTIFICATION | RESPONSE | ERROR
protocol = "udp"               # udp | tcp
action = "deny"                # direct | relay | network | deny | audit | mirror
answer = "E_NOT_REACHABLE"     # with deny: the return code of the error a request gets
copy_to = "10.77.0.9:30600"    # with mirror: where copies go by UDP; an address of a node, or
                               # "trace": to who runs `ivc trace`
"""

from collections.abc import Collection
from dataclasses import dataclass
from dataclasses import fields as members
from difflib import get_close_matches
from enum import Enum, StrEnum
from typing import Any, Final, Literal, TypeVar

from ivc.network import fields
from ivc.network.model import Endpoint, Protocol
from ivc.network.values import Report, Scalar, Table, Value, describe
from ivc.someip import MessageType, ReturnCode


class Action(StrEnum):
    """What a rule does."""

    DIRECT = "direct"
    RELAY = "relay"
    NETWORK = "network"
    DENY = "deny"
    AUDIT = "audit"
    MIRROR = "mirror"


TO_TRACE: Final = "trace"
"""Copies go to who traces, if anybody does."""

CopyTo = Endpoint | Literal["trace"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, the `number`-th from 1. What it matches by is anything where it is None.

    `answer` is what requests get that it denies; None: nothing. `copy_to` is where copies go of
    what it mirrors.
    """

    number: int
    action: Action
    source: str | None = None
    destination: str | None = None
    service: int | None = None
    instance: int | None = None
    method: int | None = None
    client: int | None = None
    type: MessageType | None = None
    protocol: Protocol | None = None
    answer: ReturnCode | None = None
    copy_to: CopyTo | None = None

    @property
    def by_message(self) -> bool:
        """Whether messages of one service may differ in whether they match."""
        return not (self.method is self.client is self.type is None)

    def covers(self, other: "Rule") -> bool:
        """Whether it matches whatever `other` matches."""
        return all(getattr(self, name) in {None, getattr(other, name)} for name in _MATCHED)


_DONE: Final = {"number", "action", "answer", "copy_to"}
_MATCHED: Final = tuple(member.name for member in members(Rule) if member.name not in _DONE)
_KEYS: Final = frozenset(
    {
        "from",
        "to",
        "service",
        "instance",
        "method",
        "client",
        "type",
        "protocol",
        "action",
        "answer",
        "copy_to",
    }
)
_TYPES: Final = {kind.name: kind for kind in MessageType if "ACK" not in kind.name}
_PROTOCOLS: Final = {protocol.value: protocol for protocol in Protocol}
_ANSWERS: Final = {code.name: code for code in ReturnCode if code}
_ACTIONS: Final = {action.value: action for action in Action}

_Named = TypeVar("_Named", bound=Enum)


def read_rules(value: Value | None, nodes: Collection[str], report: Report) -> tuple[Rule, ...]:
    """Read the list of rules; `nodes` are the names a rule may use. Bad ones are left out."""
    numbered = enumerate(fields.tables(value, report), start=1)
    read = (_rule(number, table, nodes, report) for number, table in numbered)
    return tuple(rule for rule in read if rule is not None)


def _rule(number: int, table: Table, nodes: Collection[str], report: Report) -> Rule | None:
    fields.warn_unknown(table, _KEYS, "a rule", report)
    node = _node_of(nodes)
    rule: dict[str, Any] = {
        "action": fields.required(table, "action", _action, '"deny"', report),
        "source": fields.optional(table, "from", node, report),
        "destination": fields.optional(table, "to", node, report),
        "type": fields.optional(table, "type", _type, report),
        "protocol": fields.optional(table, "protocol", _protocol, report),
        "answer": fields.optional(table, "answer", _answer, report),
    }
    for key in ("service", "instance", "method", "client"):
        rule[key] = fields.optional(table, key, fields.identifier, report)
    if rule["action"] is None:
        return None
    if rule["action"] is Action.MIRROR:
        rule["copy_to"] = fields.required(table, "copy_to", _copy_to, '"10.77.0.9:30600"', report)
    found = Rule(number, **rule)
    _check(found, table, report)
    return found


def _node_of(nodes: Collection[str]) -> fields.Reader[str]:
    def read(value: Value, report: Report) -> str | None:
        name = fields.text(value, report, "the name of a node")
        if name is None or name in nodes:
            return name
        close = get_close_matches(name, nodes, 1)
        report.error(
            value.place,
            "rule-node",
            describe(value),
            "the name of a node in [nodes]",
            f'write "{close[0]}"?' if close else "map the node, or remove the rule",
        )
        return None

    return read


def _named(
    value: Value, known: dict[str, _Named], kind: str, fix: str, report: Report
) -> _Named | None:
    found = known.get(value.text) if isinstance(value, Scalar) else None
    if found is None:
        report.error(value.place, kind, describe(value), " | ".join(known), fix)
    return found


def _action(value: Value, report: Report) -> Action | None:
    return _named(value, _ACTIONS, "bad-action", "write one of these", report)


def _type(value: Value, report: Report) -> MessageType | None:
    fix = "write the name of a message type; segments of a message are of its type"
    return _named(value, _TYPES, "bad-message-type", fix, report)


def _protocol(value: Value, report: Report) -> Protocol | None:
    return _named(value, _PROTOCOLS, "bad-protocol", "write one of these", report)


def _answer(value: Value, report: Report) -> ReturnCode | None:
    return _named(value, _ANSWERS, "bad-return-code", "write the name of a return code", report)


def _copy_to(value: Value, report: Report) -> CopyTo | None:
    """ADDRESS:PORT of a host; whose it is is for `ivc.network.lint_rules`. Or "trace"."""
    written = value.text if isinstance(value, Scalar) else ""
    if written == TO_TRACE:
        return TO_TRACE
    host, colon, port = written.partition(":")
    if not colon or "/" in port:
        report.error(
            value.place,
            "bad-copy",
            describe(value),
            '"ADDRESS:PORT" of a UDP socket, or "trace"',
            'write one such as "10.77.0.9:30600"; copies are sent as datagrams, nothing else',
        )
        return None
    address = fields.unicast(Scalar(host, False, value.place), report)
    number = fields.port(Scalar(port, False, value.place), report)
    return Endpoint(address, number) if address is not None and number is not None else None


def _check(rule: Rule, table: Table, report: Report) -> None:
    """What fits together by itself; what fits the network is for `ivc.network.lint`."""
    if rule.instance is not None and "service" not in table.items:
        report.error(
            table.items["instance"].place,
            "instance-alone",
            "an instance without a service",
            "service beside instance",
            "add the service; which instance a message is for follows from it and the endpoint",
        )
    if "answer" in table.items and (
        rule.action is not Action.DENY or rule.type not in {None, MessageType.REQUEST}
    ):
        report.error(
            table.items["answer"].place,
            "no-answer",
            "an answer to what is not denied, or asks for none",
            "answer beside deny, for any type or REQUEST",
            "remove answer",
        )
    if "copy_to" in table.items and rule.action is not Action.MIRROR:
        report.error(
            table.items["copy_to"].place,
            "no-copy",
            f'"copy_to" beside "{rule.action.value}"',
            "copy_to beside mirror",
            'write action = "mirror", or remove copy_to',
        )
    if rule.action is Action.NETWORK and rule.by_message:
        report.error(
            table.items["action"].place,
            "network-by-message",
            '"network" with method, client or type',
            "network for whole flows: by node, service, instance and protocol",
            "leave out method, client and type; one message of a flow has no other way than the "
            "next",
        )
