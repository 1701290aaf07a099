# SPDX-License-Identifier: Apache-2.0
"""Which kind of value each field of the model is in a network file.

It follows from the field's type; for numbers and addresses, whose type says little, from its name.
"""

from dataclasses import is_dataclass
from functools import cache
from ipaddress import IPv4Address
from types import NoneType, UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints

from ivc.network import fields
from ivc.network.model import Endpoint, PortRange, ServiceRef
from ivc.network.neutral.kinds import (
    Address,
    Boolean,
    EndpointText,
    Kind,
    Number,
    Pairs,
    RangeText,
    Record,
    RefText,
    Sequence,
    Text,
)

_ID: Final = Number(0xFFFF, digits=4)
_PORT: Final = Number(0xFFFF, least=1)
_COUNT: Final = Number(0xFFFFFFFF)
_NUMBERS: Final = {
    **dict.fromkeys(("service", "instance", "event", "eventgroup", "method", "id", "events"), _ID),
    **dict.fromkeys(("port", "udp_ports", "tcp_ports"), _PORT),
    "major": Number(0xFF),
    "threshold": Number(0xFF),
    "ttl": Number(0xFFFFFF),
}
_ADDRESSES: Final = {
    ("Node", "address"): Address(fields.unicast),
    ("Node", "netmask"): Address(fields.netmask),
}
_TEXTS: Final[dict[type, Kind]] = {
    Endpoint: EndpointText(),
    PortRange: RangeText(),
    ServiceRef: RefText(),
    bool: Boolean(),
    str: Text(),
}


# A service stands within its node.
_LEFT_OUT: Final = {("ServiceInstance", "node")}


@cache
def record(cls: type[Any]) -> Record:
    """A value of the model as a table."""
    members = {
        name: _kind(cls, name, hint)
        for name, hint in get_type_hints(cls).items()
        if (cls.__name__, name) not in _LEFT_OUT
    }
    return Record(cls, members)


def _kind(cls: type[Any], name: str, hint: Any) -> Kind:
    if get_origin(hint) is UnionType:  # X | None: None is left out
        (hint,) = (option for option in get_args(hint) if option is not NoneType)
    if hint == tuple[tuple[str, str], ...]:
        return Pairs()
    if get_origin(hint) is tuple:
        return Sequence(_kind(cls, name, get_args(hint)[0]))
    if hint in _TEXTS:
        return _TEXTS[hint]
    if hint is int:
        return _NUMBERS.get(name, _COUNT)
    if hint is IPv4Address:
        return _ADDRESSES.get((cls.__name__, name), Address())
    assert is_dataclass(hint) and isinstance(hint, type), hint
    return record(hint)
