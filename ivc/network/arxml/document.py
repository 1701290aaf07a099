# SPDX-License-Identifier: Apache-2.0
"""All ARXML files of one project as one document: AUTOSAR models are split, and refer across."""

from collections.abc import Iterable, Iterator, Sequence

from ivc.errors import Severity
from ivc.network.arxml.element import Element
from ivc.network.values import Report, quote


class Document:
    """The merged files.

    An element that stands in several files (extracts for several ECUs repeat what they share) is
    one element with the children of all; a file that has one twice is at fault.
    """

    def __init__(self, roots: Sequence[Element], report: Report) -> None:
        self._report = report
        self._named: dict[str, Element] = {}
        self._by_tag: dict[str, list[Element]] = {}
        for root in roots:
            _drop_repeated(root, {}, report)
        self.root = Element("AUTOSAR", roots[0].file, roots[0].line, roots[0].column)
        for root in roots:
            _merge(self.root, root)
        self._index(self.root)

    def of_kind(self, tag: str) -> Iterator[Element]:
        """All elements with this tag, in document order."""
        yield from self._by_tag.get(tag, ())

    def named(self, reference: Element | None) -> Element | None:
        """What a reference refers to, or None; nothing is noted."""
        return self._named.get(reference.text) if reference is not None else None

    def resolve(
        self, reference: Element | None, *kinds: str, severity: Severity = Severity.ERROR
    ) -> Element | None:
        """What a reference refers to, an element of one of `kinds`; None if it does not.

        A reference that leads nowhere, or to something else, is noted; no reference is not.
        """
        if reference is None:
            return None
        target = self.named(reference)
        if target is not None and target.tag in kinds:
            return target
        note = self._report.error if severity is Severity.ERROR else self._report.warning
        note(
            reference.place,
            "bad-reference",
            f"{reference.tag} {quote(reference.text)}, which "
            + ("leads nowhere" if target is None else f"is a {target.tag}"),
            f"the path of an element {' or '.join(kinds)}",
            "correct it, or name the ARXML file that has the element too",
        )
        return None

    def resolve_all(
        self, references: Iterable[Element], *kinds: str, severity: Severity = Severity.ERROR
    ) -> list[Element]:
        """What these references refer to, once each; see `resolve`."""
        found = (self.resolve(reference, *kinds, severity=severity) for reference in references)
        return list({id(target): target for target in found if target is not None}.values())

    def owner(self, element: Element) -> Element | None:
        """The named element an element is part of: of an ECU's connector, the ECU."""
        return self._named.get(element.path.rpartition("/")[0])

    def _index(self, element: Element) -> None:
        self._by_tag.setdefault(element.tag, []).append(element)
        if element.name:
            self._named.setdefault(element.path, element)
        for child in element.children:
            self._index(child)


def _drop_repeated(element: Element, seen: dict[str, Element], report: Report) -> None:
    """Note and leave out what has the path of an element before it."""
    children = element.children
    element.children = [child for child in children if _is_new(child, seen, report)]
    for child in element.children:
        _drop_repeated(child, seen, report)


def _is_new(element: Element, seen: dict[str, Element], report: Report) -> bool:
    if not element.name or element.tag == "AR-PACKAGE":
        return True
    first = seen.setdefault(element.path, element)
    if first is element:
        return True
    report.error(
        element.place,
        "duplicate-path",
        f"a second {element.tag} {quote(element.name)}",
        f"one element of this path (the first is in line {first.line})",
        "rename one of the two",
    )
    return False


def _merge(into: Element, other: Element) -> None:
    """Add the children of `other` to `into`: those of the same tag and name become one."""
    known = {_identity(child): child for child in reversed(into.children)}
    for child in other.children:
        same = known.get(_identity(child))
        if same is None:
            into.children.append(child)
        else:
            _merge(same, child)


def _identity(element: Element) -> tuple[str, str, str]:
    """What makes two siblings of two files one; leaves by their text."""
    return element.tag, element.name, element.text
