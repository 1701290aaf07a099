# SPDX-License-Identifier: Apache-2.0
"""Read one ARXML file into elements, with the standard library's XML parser and bounds.

A document type declaration is refused: ARXML has none, and without one no entity can be declared,
neither to be expanded to gigabytes nor to name another file. Size and depth
are bounded, and so are number, text and path of what is kept. Of an `AR-PACKAGE` only the kinds
named in `KINDS` are: a vehicle's description is mostly software components and data types.
"""

from pathlib import Path
from typing import Final
from xml.parsers import expat

from ivc.network.arxml.element import Element
from ivc.network.values import Place, Report, quote

MAX_BYTES: Final = 256 << 20
MAX_ELEMENTS: Final = 1_000_000
MAX_DEPTH: Final = 100
MAX_PATH: Final = 1024

NAMESPACE: Final = "http://autosar.org/schema/r4.0"

KINDS: Final = frozenset(
    {
        "ECU-INSTANCE",
        "ETHERNET-CLUSTER",
        "MACHINE",
        "MACHINE-DESIGN",
        "PROVIDED-SOMEIP-SERVICE-INSTANCE",
        "REQUIRED-SOMEIP-SERVICE-INSTANCE",
        "SERVICE-INSTANCE-COLLECTION-SET",
        "SO-AD-ROUTING-GROUP",
        "SOCKET-CONNECTION-IPDU-IDENTIFIER-SET",
        "SOMEIP-SERVICE-INSTANCE-TO-MACHINE-MAPPING",
        "SOMEIP-SERVICE-INTERFACE-DEPLOYMENT",
    }
)

# Parts of what is kept that nobody reads, and that may be most of it.
_SKIPPED: Final = frozenset(
    {
        "ADMIN-DATA",
        "DESC",
        "ECU-COMM-PORT-INSTANCES",
        "FRAME-TRIGGERINGS",
        "I-SIGNAL-TRIGGERINGS",
        "LONG-NAME",
        "PDU-TRIGGERINGS",
    }
)

# No value is longer; what comes after it of a text is dropped.
_LONGEST_TEXT: Final = 4096

_CHUNK: Final = 1 << 20
_LARGE: Final = (
    f"at most {MAX_BYTES >> 20} MiB, {MAX_ELEMENTS:,} elements of use, "
    f"and paths of {MAX_PATH} characters"
)
_EXTRACT: Final = "export an extract: ECUs, Ethernet clusters and service instances are enough"


class _Refused(Exception):
    """The file cannot be taken, for a reason that is not XML syntax."""

    def __init__(self, code: str, found: str, expected: str, fix: str) -> None:
        super().__init__(found)
        self.finding = (code, found, expected, fix)


def parse_arxml(path: Path, file: str, report: Report) -> Element | None:
    """The root element of an ARXML file, called `file` in findings.

    Returns None after noting what is wrong. Raises `OSError` if the file cannot be read.
    """
    builder = _Builder(file)
    parser = builder.parser
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                builder.check_size(stream.tell())
                parser.Parse(chunk, False)
            parser.Parse(b"", True)
    except expat.ExpatError as error:
        place = Place(file, builder.path, error.lineno, error.offset + 1)
        report.error(
            place, "syntax", expat.ErrorString(error.code), "well-formed XML", "mend the line named"
        )
        return None
    except (LookupError, ValueError) as error:  # of the codec for the encoding it declares
        report.error(builder.place, "syntax", quote(str(error)), "XML in UTF-8", "save it as UTF-8")
        return None
    except _Refused as refused:
        report.error(builder.place, *refused.finding)
        return None
    return builder.root


class _Builder:
    """Handlers of the parser, and the elements open at the moment."""

    def __init__(self, file: str) -> None:
        self.root: Element | None = None
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self._file = file
        self._open: list[Element] = []
        self._skipped = 0  # depth inside an element that is not kept
        self._count = 0

    @property
    def path(self) -> str:
        """AUTOSAR path of the innermost open element."""
        return self._open[-1].path if self._open else ""

    @property
    def place(self) -> Place:
        """Where the parser is."""
        parser = self.parser
        return Place(
            self._file, self.path, parser.CurrentLineNumber, parser.CurrentColumnNumber + 1
        )

    def check_size(self, size: int) -> None:
        """Refuse a file that is larger than what is read."""
        if size > MAX_BYTES:
            raise _Refused("too-large", f"more than {MAX_BYTES >> 20} MiB", _LARGE, _EXTRACT)

    def _doctype(self, *_arguments: object) -> None:
        raise _Refused(
            "doctype", "a document type declaration", "none: ARXML has no DTD", "remove <!DOCTYPE>"
        )

    def _start(self, name: str, _attributes: object) -> None:
        if len(self._open) + self._skipped >= MAX_DEPTH:
            raise _Refused(
                "too-deep", f"more than {MAX_DEPTH} levels", "an ARXML file", "nest less deeply"
            )
        namespace, _, tag = name.rpartition(" ")
        if not self._open:
            _check_root(namespace, tag)
        elif self._skipped or tag in _SKIPPED or self._is_other_kind(tag):
            self._skipped += 1
            return
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise _Refused("too-large", f"more than {MAX_ELEMENTS:,} elements", _LARGE, _EXTRACT)
        parser = self.parser
        element = Element(
            tag, self._file, parser.CurrentLineNumber, parser.CurrentColumnNumber + 1, self.path
        )
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def _is_other_kind(self, tag: str) -> bool:
        return self._open[-1].tag == "ELEMENTS" and tag not in KINDS

    def _text(self, data: str) -> None:
        if self._skipped or not self._open:
            return
        element = self._open[-1]
        if len(element.text) < _LONGEST_TEXT:  # or long ones would be copied again and again
            element.text += data[:_LONGEST_TEXT]

    def _end(self, _name: str) -> None:
        if self._skipped:
            self._skipped -= 1
            return
        element = self._open.pop()
        element.text = "" if element.children else element.text.strip()
        if element.tag == "SHORT-NAME" and self._open and not self._open[-1].name:
            parent = self._open[-1]
            parent.name = element.text
            parent.path = element.path = f"{parent.path}/{element.text}"
            if len(parent.path) > MAX_PATH:
                raise _Refused(
                    "too-large", f"a path of {len(parent.path)} characters", _LARGE, "shorten it"
                )


def _check_root(namespace: str, tag: str) -> None:
    if tag == "AUTOSAR" and namespace == NAMESPACE:
        return
    found = f"<{quote(tag)[1:-1]}> of {quote(namespace)}" if namespace else f"<{quote(tag)[1:-1]}>"
    raise _Refused(
        "not-autosar",
        found,
        f'<AUTOSAR> of "{NAMESPACE}"',
        "name an ARXML file of AUTOSAR 4, or export this one as AUTOSAR 4",
    )
