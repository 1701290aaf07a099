# SPDX-License-Identifier: Apache-2.0
"""Networks of every shape the model has room for.

Made from the types of the model alone, with limits of their own, so that they know nothing of how
a network file is read and written.
"""

from dataclasses import MISSING, Field, fields, is_dataclass, replace
from functools import cache
from ipaddress import IPv4Address
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from ivc.network import (
    Endpoint,
    Eventgroup,
    Network,
    Node,
    PortRange,
    Protocol,
    ServiceDiscovery,
    ServiceInstance,
)

_LIMITS = {
    **dict.fromkeys(("service", "instance", "event", "eventgroup", "method", "id"), 0xFFFF),
    **dict.fromkeys(("major", "threshold"), 0xFF),
    "ttl": 0xFFFFFF,
}
_ports = st.integers(1, 0xFFFF)
_addresses = st.integers(0x0A4D0001, 0x0A4DFFFE).map(IPv4Address)
_masks = st.integers(0, 32).map(lambda ones: IPv4Address((0xFFFFFFFF << 32 - ones) & 0xFFFFFFFF))
_groups = st.integers(0xE0000000, 0xEFFFFFFF).map(IPv4Address)
_names = st.text(min_size=1, max_size=8)


@cache
def _field(owner: type, name: str, hint: Any) -> st.SearchStrategy[Any]:
    if get_origin(hint) is UnionType:
        (hint,) = (option for option in get_args(hint) if option is not NoneType)
        return st.none() | _field(owner, name, hint)
    if hint == tuple[tuple[str, str], ...]:
        return st.dictionaries(_names, st.text(max_size=8), max_size=3).map(
            lambda pairs: tuple(sorted(pairs.items()))
        )
    if get_origin(hint) is tuple:
        return st.lists(_field(owner, name, get_args(hint)[0]), max_size=2).map(tuple)
    if hint is int and "port" in name:
        return _ports
    if hint is int:
        limit = 0xFFFF if (owner, name) == (Eventgroup, "events") else _LIMITS.get(name)
        return st.integers(0, limit if limit is not None else 0xFFFFFFFF)
    if hint is IPv4Address:
        return _masks if name == "netmask" else _addresses
    if hint is PortRange:
        return st.lists(_ports, min_size=2, max_size=2).map(lambda ends: PortRange(*sorted(ends)))
    if is_dataclass(hint):
        return values(hint)
    return st.from_type(hint)


@st.composite
def _values(draw: st.DrawFn, cls: type[Any]) -> Any:
    hints = get_type_hints(cls)
    free = [f.name for f in fields(cls) if _has_default(f)]
    # A few at a time: whatever is written wrongly is wrong alone too, and drawing all is slow.
    chosen = draw(st.lists(st.sampled_from(free), max_size=3, unique=True)) if free else []
    chosen += [f.name for f in fields(cls) if not _has_default(f)]
    return cls(**{name: draw(_field(cls, name, hints[name])) for name in chosen})


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


@cache
def values(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Values of a class of the model: up to three fields that are not their default."""
    return _values(cls)


_sd = st.builds(replace, values(ServiceDiscovery), group=st.builds(Endpoint, _groups, _ports))


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """A network as `load` makes it: names and addresses are different, services sorted."""
    addresses = draw(st.lists(_addresses, min_size=1, max_size=3, unique=True))
    names = draw(st.lists(_names, min_size=len(addresses), max_size=len(addresses), unique=True))
    nodes = [
        replace(draw(values(Node)), name=name, address=address, sd=draw(_sd))
        for name, address in zip(names, addresses, strict=True)
    ]
    services = {}
    for node in nodes:
        for service in draw(st.lists(values(ServiceInstance), max_size=2)):
            ends = [
                Endpoint(node.address, end.port, end.protocol)
                for end in draw(st.lists(st.builds(Endpoint, _addresses, _ports), max_size=2))
            ]
            key = (service.service, service.instance, node.name)
            services[key] = replace(service, node=node.name, endpoints=tuple(ends))
    return Network(
        tuple(sorted(nodes, key=lambda node: node.name)),
        tuple(services[key] for key in sorted(services)),
    )


assert Protocol
