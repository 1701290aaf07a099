# SPDX-License-Identifier: Apache-2.0
"""JSON Schema of the network file, from the types of the model.

`ivc/network/schemas/network.schema.json` is what this makes; a test compares the two.
"""

from typing import Any

from ivc.network.model import Node, ServiceInstance
from ivc.network.neutral import shape
from ivc.network.neutral.kinds import Kind, Record, Schema, Sequence
from ivc.network.neutral.read import FORMAT, NAMES, VERSION

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def network_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a network file."""
    records: dict[str, Record] = {}
    _collect(shape.record(Node), records)
    _collect(shape.record(ServiceInstance), records)
    definitions: dict[str, Any] = {title: records[title].definition() for title in sorted(records)}
    services = Sequence(shape.record(ServiceInstance)).schema()
    definitions["Node"]["properties"] |= {"names": NAMES.schema(), "services": services}
    return {
        "$schema": DIALECT,
        "title": "IVC network file",
        "description": "SOME/IP nodes and services, as `ivc import` writes them.",
        "type": "object",
        "properties": {
            "format": {"const": FORMAT},
            "version": {"const": VERSION},
            "nodes": {**Sequence(shape.record(Node)).schema(), "minItems": 1},
            "services": services,
        },
        "required": ["format", "version", "nodes"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _collect(kind: Kind, records: dict[str, Record]) -> None:
    """All records a kind is made of, by title."""
    if isinstance(kind, Sequence):
        _collect(kind.of, records)
    elif isinstance(kind, Record) and kind.title not in records:
        records[kind.title] = kind
        for member in kind.members.values():
            _collect(member, records)
