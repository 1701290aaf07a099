# SPDX-License-Identifier: Apache-2.0
"""What the SOME/IP codec says when it cannot go on."""

from ivc.errors import IvcError


class CodecError(IvcError):
    """A problem in one field.

    `path` names the field from the outside in, for example "sd.entries[2].options";
    `problem` says what is wrong with it in words.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class ParseError(CodecError):
    """The bytes are not what the wire format demands: the sender's fault."""


class BuildError(CodecError):
    """The value does not fit the wire format: the caller's fault."""
