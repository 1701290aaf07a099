# SPDX-License-Identifier: Apache-2.0
"""Families of metrics as OpenMetrics 1.0 text.

Only gauges and counters, so that what reads the older Prometheus text, as node_exporter does with
text files, can read this too.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Number = int | float
Samples = Iterable[tuple[Sequence[object], Number]]
"""Values of the labels, None where there is none, and the number."""


class Kind(StrEnum):
    """What may become of a number: a counter only grows, but for when it begins anew."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Family:
    """Numbers of one name. `unit` is the end of the name, if it has one."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""

    @property
    def sample_name(self) -> str:
        """What the lines of its numbers begin with."""
        return f"{self.name}_total" if self.kind is Kind.COUNTER else self.name


def exposition(families: Iterable[tuple[Family, Samples]]) -> str:
    """The whole text, with the mark that it is whole."""
    lines = [line for family, samples in families for line in _family(family, samples)]
    return "\n".join((*lines, "# EOF")) + "\n"


def _family(family: Family, samples: Samples) -> Iterator[str]:
    yield f"# TYPE {family.name} {family.kind}"
    if family.unit:
        yield f"# UNIT {family.name} {family.unit}"
    yield f"# HELP {family.name} {family.help}"
    for labels, number in _added(samples).items():
        pairs = zip(family.labels, labels, strict=True)
        inside = ",".join(f'{name}="{value}"' for name, value in pairs if value)
        yield f"{family.sample_name}{f'{{{inside}}}' if inside else ''} {number}"


def _added(samples: Samples) -> dict[tuple[str, ...], Number]:
    """Each set of labels once: two of the same would make the whole text invalid."""
    result: dict[tuple[str, ...], Number] = {}
    for values, number in samples:
        labels = tuple("" if value is None else _escaped(str(value)) for value in values)
        result[labels] = result.get(labels, 0) + number
    return result


def _escaped(value: str) -> str:
    printable = "".join(char if char.isprintable() else "?" for char in value)
    return printable.replace("\\", "\\\\").replace('"', '\\"')
