# SPDX-License-Identifier: Apache-2.0
"""Run a `construct` declaration and turn its errors into ours, with the field's path."""

import io
from typing import Any

from construct import Construct, ConstructError

from ivc.someip.errors import BuildError, ParseError

Buffer = bytes | bytearray | memoryview
"""What the codec reads from. It is copied before it is looked at, never read twice."""


def decode(schema: Construct, data: bytes, path: str) -> tuple[Any, bytes]:
    """Parse `schema` from the start of `data`; return the fields and the bytes left over.

    Raises ParseError, its path being `path` and the field inside `schema`.
    """
    stream = io.BytesIO(data)
    try:
        return schema.parse_stream(stream), stream.read()
    except ConstructError as error:
        raise ParseError(_join(path, error), _reason(error)) from error


def encode(schema: Construct, fields: object, path: str) -> bytes:
    """Build `schema` from `fields`.

    Raises BuildError, its path being `path` and the field inside `schema`.
    """
    try:
        return bytes(schema.build(fields))
    except ConstructError as error:
        raise BuildError(_join(path, error), _reason(error)) from error


def _join(path: str, error: ConstructError) -> str:
    """`construct` knows its path as "(parsing) -> a -> b"."""
    inside = (error.path or "").split(" -> ")[1:]
    return ".".join([path, *inside])


def _reason(error: ConstructError) -> str:
    """The last line of the message; the first repeats the path."""
    lines = str(error).splitlines()
    return lines[-1] if lines else type(error).__name__
