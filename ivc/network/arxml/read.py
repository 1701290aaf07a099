# SPDX-License-Identifier: Apache-2.0
"""ARXML files to nodes, as `ivc.network.link` takes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ivc.network.arxml.adaptive import machine_names, read_adaptive
from ivc.network.arxml.classic import read_classic
from ivc.network.arxml.document import Document
from ivc.network.arxml.element import Element
from ivc.network.arxml.parse import parse_arxml
from ivc.network.arxml.participants import Participants
from ivc.network.config import NodeConfig
from ivc.network.values import Place, Report

_SUFFIX: Final = ".arxml"
_BEGINNINGS: Final = (b"<", b"\xff\xfe<", b"\xfe\xff\0<")  # in UTF-8 and both UTF-16


def split_arxml(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The ARXML files of what a user named, and the rest: JSON and whatever cannot be read.

    A folder is of ARXML files if there are some in it and no JSON.
    """
    arxml: list[Path] = []
    rest: list[Path] = []
    for path in paths:
        files = _arxml_files(path)
        arxml.extend(files)
        if not files:
            rest.append(path)
    return arxml, rest


def _arxml_files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path] if _is_arxml(path) else []
        suffixes = {file.suffix.lower() for file in path.iterdir()}
        files = sorted(file for file in path.iterdir() if file.suffix.lower() == _SUFFIX)
        return files if ".json" not in suffixes else []
    except (OSError, ValueError):  # who reads it will say why
        return []


def _is_arxml(path: Path) -> bool:
    """Whether a file is ARXML: by its name, or because it begins like XML."""
    if path.suffix.lower() == _SUFFIX:
        return True
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_BEGINNINGS)


def read_arxml(files: Sequence[tuple[Path, str]], report: Report) -> list[NodeConfig] | None:
    """The nodes that the files describe together; a file is a path and what to call it.

    None if a file could not be read: then nothing is known of what it refers to.
    """
    roots = [_parse(path, name, report) for path, name in files]
    parsed = [root for root in roots if root is not None]
    if len(parsed) < len(roots):
        return None
    if not parsed:
        return []
    document = Document(parsed, report)
    participants = Participants(report)
    read_classic(document, participants, report)
    read_adaptive(document, participants, report)
    configs = participants.configs(machine_names(document))
    if not configs and not report.has_errors:
        report.error(
            parsed[0].place,
            "no-services",
            "no SOME/IP service instance",
            "PROVIDED- or CONSUMED-SERVICE-INSTANCE, or Adaptive manifests",
            "name the file with the service instances too",
        )
    return configs


def _parse(path: Path, name: str, report: Report) -> Element | None:
    try:
        if not path.exists() or path.is_file():
            return parse_arxml(path, name, report)
        found = "not a regular file"
    except OSError as error:
        found = error.strerror or "an error"
    except ValueError:  # a NUL in the path
        found = "an impossible file name"
    report.error(Place(name), "unreadable", found, "an ARXML file", "check name and rights")
    return None
