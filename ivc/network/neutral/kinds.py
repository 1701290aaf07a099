# SPDX-License-Identifier: Apache-2.0
"""Kinds of values in a network file: how each is read, written, and described in JSON Schema."""

import re
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields
from ipaddress import IPv4Address
from types import NoneType
from typing import Any, Final, Protocol, get_args

from ivc.network import fields as readers
from ivc.network.model import Endpoint, PortRange, ServiceRef
from ivc.network.model import Protocol as Transport
from ivc.network.values import Array, Report, Scalar, Value, describe

_DECIMAL: Final = re.compile(r"[0-9]{1,20}")
_HEX: Final = re.compile(r"0x[0-9a-fA-F]{1,4}")
_OCTET: Final = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_ADDRESS: Final = rf"{_OCTET}(\.{_OCTET}){{3}}"
_ENDPOINT: Final = re.compile(r"([0-9.]{7,15}):([0-9]{1,5})/(udp|tcp)")
_RANGE: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_REF: Final = re.compile(r"(0x[0-9a-fA-F]{1,4})\.(0x[0-9a-fA-F]{1,4})")

Schema = dict[str, Any]


class Kind(Protocol):
    """One kind of value."""

    def read(self, value: Value, report: Report) -> Any:
        """The value in the model; None after noting what is wrong with it."""

    def write(self, value: Any) -> Any:
        """The value as TOML and JSON have it."""

    def schema(self) -> Schema:
        """What JSON Schema says of it."""


def _wrong(value: Value, code: str, expected: str, fix: str, report: Report) -> None:
    report.error(value.place, code, describe(value), expected, fix)


def _text(value: Value) -> str:
    """What stands in quotes; anything else is no text."""
    return value.text if isinstance(value, Scalar) and not value.literal else ""


@dataclass(frozen=True, slots=True)
class Number:
    """A number from `least` to `largest`; ids are written as 0x hex of `digits` digits."""

    largest: int
    least: int = 0
    digits: int = 0

    def read(self, value: Value, report: Report) -> int | None:
        number = self._number(value)
        if number is not None and self.least <= number <= self.largest:
            return number
        expected = f"a number from {self.least} to {self.largest}"
        expected += f' (0x{self.largest:x}), as 4660 or "0x1234"' if self.digits else ""
        _wrong(value, "bad-number", expected, "write a number in range", report)
        return None

    def _number(self, value: Value) -> int | None:
        """Without quotes decimal, as the parsers hand it on; in quotes hex, and ids only."""
        if isinstance(value, Scalar) and value.literal:
            return int(value.text) if _DECIMAL.fullmatch(value.text) else None
        text = _text(value)
        return int(text, 16) if self.digits and _HEX.fullmatch(text) else None

    def write(self, value: int) -> int | str:
        return f"0x{value:0{self.digits}x}" if self.digits else value

    def schema(self) -> Schema:
        number = {"type": "integer", "minimum": self.least, "maximum": self.largest}
        if not self.digits:
            return number
        return {"anyOf": [number, {"type": "string", "pattern": f"^{_HEX.pattern}$"}]}


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or false, without quotes."""

    def read(self, value: Value, report: Report) -> bool | None:
        if isinstance(value, Scalar) and value.literal and value.text in {"true", "false"}:
            return value.text == "true"
        _wrong(value, "bad-boolean", "true or false", "write true or false, without quotes", report)
        return None

    def write(self, value: bool) -> bool:
        return value

    def schema(self) -> Schema:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Text:
    """Any text."""

    def read(self, value: Value, report: Report) -> str | None:
        if isinstance(value, Scalar) and not value.literal:
            return value.text
        _wrong(value, "bad-type", "text in quotes", 'write it in quotes: "..."', report)
        return None

    def write(self, value: str) -> str:
        return value.encode("utf-8", "backslashreplace").decode()  # of odd file names

    def schema(self) -> Schema:
        return {"type": "string"}


@dataclass(frozen=True, slots=True)
class Address:
    """An IPv4 address, read by one of the functions of `ivc.network.fields`."""

    reader: Callable[[Value, Report], IPv4Address | None] = readers.address

    def read(self, value: Value, report: Report) -> IPv4Address | None:
        return self.reader(value, report)

    def write(self, value: IPv4Address) -> str:
        return str(value)

    def schema(self) -> Schema:
        return {"type": "string", "pattern": f"^{_ADDRESS}$"}


@dataclass(frozen=True, slots=True)
class EndpointText:
    """An endpoint as `ADDRESS:PORT/udp` or `ADDRESS:PORT/tcp`."""

    def read(self, value: Value, report: Report) -> Endpoint | None:
        match = _ENDPOINT.fullmatch(_text(value))
        if match is not None and 1 <= int(match[2]) <= 0xFFFF:
            quiet = Report()
            address = readers.address(Scalar(match[1], False, value.place), quiet)
            if address is not None:
                return Endpoint(address, int(match[2]), Transport(match[3]))
        _wrong(
            value,
            "bad-endpoint",
            "an endpoint, ADDRESS:PORT/udp or ADDRESS:PORT/tcp",
            'write one such as "10.77.0.1:30509/udp"',
            report,
        )
        return None

    def write(self, value: Endpoint) -> str:
        return str(value)

    def schema(self) -> Schema:
        return {"type": "string", "pattern": f"^{_ADDRESS}:{_PORT}/(udp|tcp)$"}


_PORT: Final = (
    "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
)


@dataclass(frozen=True, slots=True)
class RangeText:
    """Ports as `FIRST-LAST`, or one port."""

    def read(self, value: Value, report: Report) -> PortRange | None:
        match = _RANGE.fullmatch(_text(value))
        if match is not None:
            first, last = int(match[1]), int(match[2] or match[1])
            if 1 <= first <= last <= 0xFFFF:
                return PortRange(first, last)
        _wrong(
            value, "bad-range", "ports FIRST-LAST", 'write a range such as "30491-30499"', report
        )
        return None

    def write(self, value: PortRange) -> str:
        return str(value)

    def schema(self) -> Schema:
        return {"type": "string", "pattern": f"^{_PORT}(-{_PORT})?$"}


@dataclass(frozen=True, slots=True)
class RefText:
    """A service instance as `0xSERVICE.0xINSTANCE`."""

    def read(self, value: Value, report: Report) -> ServiceRef | None:
        match = _REF.fullmatch(_text(value))
        if match is not None:
            return ServiceRef(int(match[1], 16), int(match[2], 16))
        expected = "a service instance, 0xSERVICE.0xINSTANCE"
        _wrong(value, "bad-id", expected, 'write one such as "0x1234.0x0001"', report)
        return None

    def write(self, value: ServiceRef) -> str:
        return str(value)

    def schema(self) -> Schema:
        return {"type": "string", "pattern": f"^{_REF.pattern}$"}


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list of one kind; None if any of its members is wrong."""

    of: Kind

    def read(self, value: Value, report: Report) -> tuple[Any, ...] | None:
        if not isinstance(value, Array):
            _wrong(value, "bad-type", "a list", "write [ ... ]", report)
            return None
        items = tuple(self.of.read(item, report) for item in value.items)
        return None if any(item is None for item in items) else items

    def write(self, value: tuple[Any, ...]) -> list[Any]:
        return [self.of.write(item) for item in value]

    def schema(self) -> Schema:
        return {"type": "array", "items": self.of.schema()}


@dataclass(frozen=True, slots=True)
class Pairs:
    """Texts by name, sorted: a table whose keys are free."""

    def read(self, value: Value, report: Report) -> tuple[tuple[str, str], ...] | None:
        table = readers.table(value, report)
        if table is None:
            return None
        texts = {key: Text().read(item, report) for key, item in table.items.items()}
        found = [(key, text) for key, text in texts.items() if text is not None]
        return tuple(sorted(found)) if len(found) == len(texts) else None

    def write(self, value: tuple[tuple[str, str], ...]) -> dict[str, str]:
        return dict(value)

    def schema(self) -> Schema:
        return {"type": "object", "additionalProperties": {"type": "string"}}


@dataclass(frozen=True, slots=True)
class Record:
    """A value of the model as a table: one key for each field, defaults left out."""

    cls: type[Any]
    members: dict[str, Kind]

    @property
    def title(self) -> str:
        """What findings and the schema call it."""
        return self.cls.__name__

    def read(self, value: Value, report: Report) -> Any:
        table = readers.table(value, report)
        if table is None:
            return None
        readers.warn_unknown(table, frozenset(self.members), f"a {self.title}", report)
        found = {
            name: kind.read(item, report)
            for name, kind in self.members.items()
            if (item := table.get(name)) is not None
        }
        missing = [name for name in self.required() if name not in found]
        for name in missing:
            report.error(table.place.at(name), "missing", f'no "{name}"', "it", f"add {name} = ...")
        if missing or any(member is None for member in found.values()):
            return None
        absent = {field.name: None for field in fields(self.cls) if _is_none_by_default(field)}
        return self.cls(**absent | found)

    def required(self) -> list[str]:
        """Names of the members without default."""
        return [field.name for field in fields(self.cls) if _is_required(field)]

    def write(self, value: Any) -> dict[str, Any]:
        written = {}
        for field in fields(self.cls):
            member = getattr(value, field.name)
            if field.name in self.members and (_is_required(field) or member != _default(field)):
                written[field.name] = self.members[field.name].write(member)
        return written

    def schema(self) -> Schema:
        return {"$ref": f"#/$defs/{self.title}"}

    def definition(self) -> Schema:
        """The schema itself, for `$defs`."""
        return {
            "type": "object",
            "description": (self.cls.__doc__ or "").partition("\n\n")[0].replace("\n    ", " "),
            "properties": {name: kind.schema() for name, kind in self.members.items()},
            "required": self.required(),
            "additionalProperties": False,
        }


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _is_none_by_default(field: Field[Any]) -> bool:
    """Whether a field without default may be None, which is then what its absence means."""
    return not _has_default(field) and NoneType in get_args(field.type)


def _is_required(field: Field[Any]) -> bool:
    return not _has_default(field) and not _is_none_by_default(field)


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default
