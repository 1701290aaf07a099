# SPDX-License-Identifier: Apache-2.0
"""Which files make a node, in the order vsomeip reads them, and their text."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ivc.network.values import Place, Report

# Read before all others of a folder, and by every application.
_MANDATORY = (
    "vsomeip_std.json,vsomeip_app.json,vsomeip_events.json,vsomeip_plc.json,vsomeip_log.json,"
    "vsomeip_security.json,vsomeip_whitelist.json,vsomeip_policy_extensions.json,"
    "vsomeip_portcfg.json"
)
_SYSTEM = Path("/etc")

# A thousand times the largest configuration seen; more is somebody's mistake.
_LARGEST_FILE = 64 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """Files that belong together, in reading order; `name` is that of their folder."""

    files: tuple[Path, ...]
    name: str | None = None


def find_source(path: Path, report: Report, environ: Mapping[str, str]) -> Source:
    """The file `path`, or what vsomeip reads of the folder `path`."""
    if not path.is_dir():
        return Source((path,))
    try:
        names = [file.name for file in path.iterdir() if not file.is_dir()]
    except OSError as error:
        unreadable(path, error.strerror or "an error", report)
        return Source(())
    names = [name for name in names if name.lower().endswith(".json")]
    if not names:
        report.error(
            Place(display(path)),
            "empty-folder",
            "a folder without *.json",
            "vsomeip configuration files",
            "name the folder that holds them",
        )
    return Source(tuple(path / name for name in reading_order(names, environ)), path.resolve().name)


def reading_order(names: Iterable[str], environ: Mapping[str, str]) -> list[str]:
    """Files of a folder: mandatory ones first, each kind by name.

    Which are mandatory says VSOMEIP_MANDATORY_CONFIGURATION_FILES, if it is set.
    """
    mandatory = _mandatory(environ)
    return sorted(names, key=lambda name: (name not in mandatory, name))


def _mandatory(environ: Mapping[str, str]) -> set[str]:
    listed = environ.get("VSOMEIP_MANDATORY_CONFIGURATION_FILES", _MANDATORY)
    return {name.strip() for name in listed.split(",")}


def environment_source(
    environ: Mapping[str, str], report: Report, system: Path = _SYSTEM
) -> Source:
    """What the application VSOMEIP_APPLICATION_NAME would read if it were started right here.

    VSOMEIP_CONFIGURATION_<application>, else VSOMEIP_CONFIGURATION, names a file or a folder; one
    that does not exist is passed over by vsomeip, and noted. Else ./vsomeip.json and ./vsomeip/
    are read, each before its namesake in `system`.
    """
    variable = f"VSOMEIP_CONFIGURATION_{environ.get('VSOMEIP_APPLICATION_NAME', '')}"
    if variable not in environ:
        variable = "VSOMEIP_CONFIGURATION"
    if variable in environ:
        path = Path(environ[variable])
        if path.exists():
            return find_source(path, report, environ)
        _report_gone(variable, path, report)
    places = [
        next((path for path in (f"./{name}", f"{system}/{name}") if is_kind(Path(path))), None)
        for name, is_kind in (("vsomeip", Path.is_dir), ("vsomeip.json", Path.is_file))
    ]
    inputs = sorted(path for path in places if path is not None)
    if not inputs:
        _report_nothing(report)
    found = [find_source(Path(path), report, environ) for path in inputs]
    files = [file for source in found for file in source.files]
    return Source(
        tuple(sorted(files, key=lambda file: file.name not in _mandatory(environ))),
        next((source.name for source in found if source.name), None),
    )


def _report_gone(variable: str, path: Path, report: Report) -> None:
    report.warning(
        Place(display(path)),
        "gone-configuration",
        f"nothing, though {variable} names it",
        "a file or a folder",
        f"correct or unset {variable}; vsomeip goes on with its default places",
    )


def _report_nothing(report: Report) -> None:
    report.error(
        Place("vsomeip.json"),
        "no-configuration",
        "no configuration, neither here nor in /etc",
        "a file or folder named on the command line or in VSOMEIP_CONFIGURATION",
        "name one",
    )


def read_text(path: Path, report: Report) -> str | None:
    """The text of a file; None after noting why there is none."""
    try:
        if path.exists() and not path.is_file():
            unreadable(path, "not a regular file", report)
            return None
        if path.stat().st_size > _LARGEST_FILE:
            unreadable(path, f"{path.stat().st_size} bytes", report)
            return None
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        unreadable(path, error.strerror or "an error", report)
    except UnicodeDecodeError as error:
        unreadable(path, f"a byte that is not UTF-8 at offset {error.start}", report)
    except ValueError:  # a NUL in the path
        unreadable(path, "an impossible file name", report)
    return None


def unreadable(path: Path, found: str, report: Report) -> None:
    """Note that a file cannot be read."""
    report.error(
        Place(display(path)),
        "unreadable",
        found,
        f"a text file in UTF-8, at most {_LARGEST_FILE >> 20} MiB",
        "check name, rights and encoding",
    )


def display(path: Path) -> str:
    """The path as it can always be printed."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
