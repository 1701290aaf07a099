# SPDX-License-Identifier: Apache-2.0
"""An element of an ARXML file, with the place it stood at."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ivc.network.values import Place


@dataclass(slots=True, eq=False)
class Element:
    """An element: its tag without namespace, its text (of leaves), its children.

    `path` is the AUTOSAR path: the SHORT-NAMEs from the root down to this element or, if it has
    none, to the nearest one above that has.
    """

    tag: str
    file: str
    line: int
    column: int
    path: str = ""
    name: str = ""
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    @property
    def place(self) -> Place:
        """Where the element stands, for findings."""
        return Place(self.file, self.path, self.line, self.column)

    def one(self, *tags: str) -> "Element | None":
        """The first element by this way of child tags, or None."""
        return next(self.all(*tags), None)

    def all(self, *tags: str) -> Iterator["Element"]:
        """All elements by this way of child tags, in document order."""
        head, rest = tags[0], tags[1:]
        for child in self.children:
            if child.tag == head:
                if rest:
                    yield from child.all(*rest)
                else:
                    yield child

    def every(self, tag: str) -> Iterator["Element"]:
        """All descendants with this tag, in document order."""
        for child in self.children:
            if child.tag == tag:
                yield child
            yield from child.every(tag)
