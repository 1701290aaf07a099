# SPDX-License-Identifier: Apache-2.0
"""Read the user's files: vsomeip JSON and a mapping in, network and mapping out."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ivc.errors import ConfigError, Finding
from ivc.network import fields
from ivc.network.jsontext import parse_json
from ivc.network.link import MappingFile, link
from ivc.network.mapping import Mapping, read_mapping
from ivc.network.model import Network
from ivc.network.tomltext import parse_toml
from ivc.network.values import Place, Report, Scalar, Table, Value
from ivc.network.vsomeip import NodeConfig, read_node

# In a configuration folder vsomeip reads these first.
_MANDATORY = (
    "vsomeip_std.json",
    "vsomeip_app.json",
    "vsomeip_events.json",
    "vsomeip_plc.json",
    "vsomeip_log.json",
    "vsomeip_security.json",
    "vsomeip_whitelist.json",
    "vsomeip_policy_extensions.json",
    "vsomeip_portcfg.json",
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files say. `findings` are warnings only: errors raise `ConfigError`."""

    network: Network
    mapping: Mapping
    findings: tuple[Finding, ...]


def load(paths: Sequence[Path], mapping: Path) -> Loaded:
    """Read configuration files or folders, and the mapping.

    Each file is one node. A folder is one node too, its `*.json` read in name order, mandatory
    names first, as vsomeip does; but if its files name two or more different `unicast` addresses,
    each file is a node. The mapping is TOML, or JSON if its name ends in `.json`.

    Raises `ConfigError` with everything that is wrong in all files.
    """
    report = Report()
    mapping_file = _load_mapping(mapping, report)
    sources = [_documents(path, mapping, report) for path in paths]
    configs = [
        config
        for path, documents in zip(paths, sources, strict=True)
        for config in _nodes(path, documents, report)
    ]
    network = None
    if mapping_file is not None:
        complete = all(source and _all_read(source) for source in sources)
        network = link(configs, mapping_file, complete, report)
    if network is None or mapping_file is None or report.has_errors:
        raise ConfigError(report.sorted())
    return Loaded(network, mapping_file.mapping, report.sorted())


def _load_mapping(path: Path, report: Report) -> MappingFile | None:
    text = _read(path, report)
    if text is None:
        return None
    parse = parse_json if path.suffix == ".json" else parse_toml
    document = parse(text, _display(path), report)
    mapping = read_mapping(document, report) if document is not None else None
    return MappingFile(mapping, document) if mapping is not None and document is not None else None


def _documents(path: Path, mapping: Path, report: Report) -> list[tuple[Path, Table | None]]:
    """The JSON documents of one argument; None for one that cannot be read."""
    files = _files(path, report)
    if path.is_dir():  # where the mapping may lie too
        here = os.path.realpath(mapping)  # unlike resolve(), silent about loops of links
        files = [file for file in files if os.path.realpath(file) != here]
    return [(file, _document(file, report)) for file in files]


def _all_read(documents: Sequence[tuple[Path, Table | None]]) -> bool:
    return all(document is not None for _, document in documents)


def _files(path: Path, report: Report) -> list[Path]:
    if not path.is_dir():
        return [path]
    try:
        names = sorted(file.name for file in path.iterdir() if file.suffix == ".json")
    except OSError as error:
        _unreadable(path, error.strerror or "an error", report)
        return []
    if not names:
        report.error(
            Place(_display(path)),
            "empty-folder",
            "a folder without *.json",
            "vsomeip configuration files",
            "name the folder that holds them",
        )
    first = [name for name in _MANDATORY if name in names]
    return [path / name for name in first + [name for name in names if name not in first]]


def _document(path: Path, report: Report) -> Table | None:
    text = _read(path, report)
    value = parse_json(text, _display(path), report) if text is not None else None
    return fields.table(value, report) if value is not None else None


def _nodes(
    path: Path, documents: Sequence[tuple[Path, Table | None]], report: Report
) -> list[NodeConfig]:
    readable = [(file, table) for file, table in documents if table is not None]
    addresses = {_unicast_text(table.get("unicast")) for _, table in readable} - {None}
    if len(addresses) > 1:
        return [read_node([file.stem], [table], report) for file, table in readable]
    if not readable:
        return []
    folder = [path.resolve().name] if path.is_dir() else []
    names = folder + [file.stem for file, _ in readable]
    return [read_node(names, [table for _, table in readable], report)]


def _unicast_text(value: Value | None) -> str | None:
    return value.text if isinstance(value, Scalar) else None


def _read(path: Path, report: Report) -> str | None:
    try:
        if path.exists() and not path.is_file():
            _unreadable(path, "not a regular file", report)
            return None
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        _unreadable(path, error.strerror or "an error", report)
    except UnicodeDecodeError as error:
        _unreadable(path, f"a byte that is not UTF-8 at offset {error.start}", report)
    except ValueError:  # a NUL in the path
        _unreadable(path, "an impossible file name", report)
    return None


def _unreadable(path: Path, found: str, report: Report) -> None:
    report.error(
        Place(_display(path)), "unreadable", found, "a readable text file", "check name and rights"
    )


def _display(path: Path) -> str:
    """The path as it can always be printed."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
