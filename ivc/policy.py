# SPDX-License-Identifier: Apache-2.0
"""An allow-list made of the configuration: rules for a mapping (docs/rules.md)."""

import json
from collections.abc import Iterable, Sequence
from typing import Final

from ivc.network import Action, Protocol, ServiceInstance
from ivc.plan import Plan
from ivc.someip.header import SD_SERVICE

MODES: Final = {"audit": Action.AUDIT, "enforce": Action.DENY}
"""What becomes of what nothing allows, in the words of a user."""

RuleTable = dict[str, str | int]
"""One rule with the keys of `ivc.network.rules`."""

_HEAD: Final = """\
# Made by "ivc plan --emit-policy {mode}": each service may be called at the node that
# offers it, and answer and notify from there; {last}. To be put into
# the mapping, behind rules of your own; narrow it by "from", "to" and "method".
# "relay" has dom0 look at each message.
"""
_LAST: Final = {"audit": "all else is counted and passes", "enforce": "all else is denied"}


def policy(plan: Plan, mode: str) -> list[RuleTable]:
    """What the configuration knows of is allowed for datagrams between nodes inside, all else
    denied, or audited. `mode` is one of `MODES`.
    """
    inside = {node.name for node in plan.nodes if node.inside}
    served = [one for one in plan.services if one.node in inside and _has_datagrams(one)]
    rules: list[RuleTable] = [{"service": SD_SERVICE, "action": Action.DIRECT.value}]
    rules += [rule for one in served for rule in _allowed(one)]
    rules.append({"action": MODES[mode].value})
    return [{"protocol": Protocol.UDP.value, **rule} for rule in rules]


def render(rules: Sequence[RuleTable], mode: str) -> str:
    """The rules as TOML text."""
    return _HEAD.format(mode=mode, last=_LAST[mode]) + "".join(map(_table, rules))


def _has_datagrams(one: ServiceInstance) -> bool:
    return any(end.protocol is Protocol.UDP for end in one.endpoints)


def _allowed(one: ServiceInstance) -> Iterable[RuleTable]:
    # What is no SOME/IP cannot be looked at: there is no service in it.
    action = Action.RELAY if one.protocol == "someip" else Action.DIRECT
    assert one.node is not None
    for key in ("to", "from"):
        yield {
            key: one.node,
            "service": one.service,
            "instance": one.instance,
            "action": action.value,
        }


def _table(rule: RuleTable) -> str:
    return "\n[[rule]]\n" + "".join(f"{key} = {_value(rule[key])}\n" for key in rule)


def _value(value: str | int) -> str:
    # JSON's strings are TOML's too.
    return f"0x{value:04x}" if isinstance(value, int) else json.dumps(value, ensure_ascii=False)
