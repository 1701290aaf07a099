# SPDX-License-Identifier: Apache-2.0
"""What of the mapping's `[ethernet]` does not fit this machine: found before anything is done."""

from collections.abc import Iterator
from ipaddress import ip_interface

from ivc.errors import Finding, Severity
from ivc.ethernet.difference import State
from ivc.ethernet.facts import Fact, Kind
from ivc.ethernet.wanted import Wanted


def problems(want: Wanted, state: State, file: str) -> tuple[Finding, ...]:
    """All that is in the way of `want`, as errors in the mapping `file`; none: it can be done."""
    if not want.facts:
        return ()
    found = (*_of_bridge(want, state), *_of_interface(want, state), *_of_address(want, state))
    return tuple(
        Finding(Severity.ERROR, code, file, 0, 0, f"/ethernet/{key}", what, expected, fix)
        for code, key, what, expected, fix in found
    )


_Problem = tuple[str, str, str, str, str]


def _of_bridge(want: Wanted, state: State) -> Iterator[_Problem]:
    if want.bridge in state.links and Fact(Kind.BRIDGE, want.bridge) not in state.facts:
        yield (
            "no-bridge",
            "bridge",
            f"{want.bridge}, an interface that is no bridge",
            "a bridge, or a name nobody has",
            "name the bridge the guests are on",
        )


def _of_interface(want: Wanted, state: State) -> Iterator[_Problem]:
    name = want.interface
    if name not in state.links:
        yield (
            "no-interface",
            "interface",
            f"{name}, which this machine does not have",
            "an interface of this machine",
            "write the name `ip link` shows; is its driver loaded?",
        )
    if Fact(Kind.BRIDGE, name) in state.facts:
        yield (
            "no-port",
            "interface",
            f"{name}, which is a bridge itself",
            "an interface that can be a port of a bridge",
            "name the physical interface",
        )
    for fact in sorted(state.facts):
        if fact.link == name and fact.kind is Kind.ADDRESS:
            yield (
                "in-use",
                "interface",
                f"{name} with the address {fact.value}, which no port of a bridge can use",
                "an interface without addresses",
                f"move the address to {want.bridge} in dom0's own network settings, or name "
                "another interface",
            )
        elif _is_port_of_another(fact, want, state):
            yield (
                "in-use",
                "interface",
                f"{name}, which belongs to {fact.value} already",
                f"an interface that is free, or a port of {want.bridge}",
                f"write that bridge's name as bridge, or take it out: ip link set {name} nomaster",
            )


def _is_port_of_another(fact: Fact, want: Wanted, state: State) -> bool:
    port = fact.kind is Kind.MEMBER and fact.link == want.interface
    return port and fact.value != want.bridge and fact not in state.marks


def _of_address(want: Wanted, state: State) -> Iterator[_Problem]:
    """dom0's address would take the way to a subnet from the interface that has it."""
    own = [ip_interface(fact.value) for fact in want.facts if fact.kind is Kind.ADDRESS]
    for fact in sorted(state.facts):
        if fact.kind is not Kind.ADDRESS or fact.link in {want.bridge, want.interface}:
            continue
        other = ip_interface(fact.value)
        if any(o.version == other.version and o.network.overlaps(other.network) for o in own):
            yield (
                "in-use",
                "address",
                f"a subnet {fact.link} is in already, as {fact.value}",
                "a subnet of the bridge alone",
                "write another address, or take that one away",
            )
