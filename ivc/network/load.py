# SPDX-License-Identifier: Apache-2.0
"""Read the user's files: network configuration and a mapping in, network and mapping out.

Configuration is vsomeip JSON, a network file (`ivc.network.neutral`), or ARXML; which of them a
file is shows in its name and content.
"""

import os
from collections.abc import Mapping as Map
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ivc.errors import ConfigError, Finding
from ivc.network import fields
from ivc.network.arxml import read_arxml, split_arxml
from ivc.network.config import NodeConfig
from ivc.network.files import Source, display, environment_source, find_source, read_text
from ivc.network.jsontext import parse_json
from ivc.network.link import Linked, MappingFile, implied_mapping, link
from ivc.network.lint import lint
from ivc.network.mapping import Mapping, read_mapping
from ivc.network.model import Network
from ivc.network.neutral import is_network, read_network
from ivc.network.tomltext import parse_toml
from ivc.network.values import Report, Scalar, Table, Value
from ivc.network.vsomeip import read_node


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files say. `findings` are warnings only: errors raise `ConfigError`.

    `names` are, by node, all names that a mapping may call it by, in order of preference.
    """

    network: Network
    mapping: Mapping
    findings: tuple[Finding, ...]
    names: Map[str, tuple[str, ...]] = field(default_factory=dict, compare=False)


def load(
    paths: Sequence[Path], mapping: Path | None, environ: Map[str, str] = os.environ
) -> Loaded:
    """Read configuration files or folders, and the mapping.

    Each JSON file is one node. A folder is one node too, its `*.json` read in vsomeip's order; but
    if its files name two or more different `unicast` addresses, each file is a node. Without paths,
    what vsomeip would read here is the one node. The mapping is TOML, or JSON if its name ends in
    `.json`; without one, every node is on this host and called like its folder or file. A network
    file has all its nodes; ARXML files, or folders of them, describe theirs together.

    Raises `ConfigError` with everything that is wrong in all files.
    """
    report = Report()
    mapping_file = _load_mapping(mapping, report) if mapping is not None else None
    arxml, rest = split_arxml(paths)
    found = _sources(rest, environ, report) if rest or not arxml else []
    sources = [_documents(source, mapping, report) for source in found]
    configs = [config for source in sources for config in _nodes(source, report)]
    autosar = read_arxml([(file, display(file)) for file in arxml], report)
    configs += autosar or []
    linked: Linked | None = None
    if mapping is None:
        mapping_file = implied_mapping(configs)
    if mapping_file is not None:
        complete = all(source.documents and source.all_read for source in sources)
        complete = complete and autosar is not None
        linked = link(configs, mapping_file, complete, report)
        lint(linked, report)
    if linked is None or report.has_errors:
        raise ConfigError(report.sorted())
    names = {name: config.names for name, config in linked.configs.items()}
    return Loaded(linked.network, linked.mapping.mapping, report.sorted(), names)


def _load_mapping(path: Path, report: Report) -> MappingFile | None:
    text = read_text(path, report)
    if text is None:
        return None
    parse = parse_json if path.suffix == ".json" else parse_toml
    document = parse(text, display(path), report)
    mapping = read_mapping(document, report) if document is not None else None
    return MappingFile(mapping, document) if mapping is not None and document is not None else None


@dataclass(frozen=True, slots=True)
class _Documents:
    """The documents of a source by file; None for one that cannot be read."""

    name: str | None
    documents: tuple[tuple[Path, Table | None], ...]

    @property
    def all_read(self) -> bool:
        return all(document is not None for _, document in self.documents)


def _sources(paths: Sequence[Path], environ: Map[str, str], report: Report) -> list[Source]:
    if not paths:
        return [environment_source(environ, report)]
    return [find_source(path, report, environ) for path in paths]


def _documents(source: Source, mapping: Path | None, report: Report) -> _Documents:
    files = source.files
    if source.name is not None and mapping is not None:  # the mapping may lie in the folder too
        here = os.path.realpath(mapping)  # unlike resolve(), silent about loops of links
        files = tuple(file for file in files if os.path.realpath(file) != here)
    return _Documents(source.name, tuple((file, _document(file, report)) for file in files))


def _document(path: Path, report: Report) -> Table | None:
    text = read_text(path, report)
    parse = parse_toml if path.suffix == ".toml" else parse_json
    value = parse(text, display(path), report) if text is not None else None
    return fields.table(value, report) if value is not None else None


def _nodes(source: _Documents, report: Report) -> list[NodeConfig]:
    readable = [(file, table) for file, table in source.documents if table is not None]
    addresses = {_unicast_text(table.get("unicast")) for _, table in readable} - {None}
    if len(addresses) > 1:
        return [read_node([file.stem], [table], report) for file, table in readable]
    if not readable:
        return []
    if len(readable) == 1 and is_network(*readable[0]):
        return read_network(readable[0][1], report)
    folder = [source.name] if source.name is not None else []
    names = folder + [file.stem for file, _ in readable]
    return [read_node(names, [table for _, table in readable], report)]


def _unicast_text(value: Value | None) -> str | None:
    return value.text if isinstance(value, Scalar) else None
