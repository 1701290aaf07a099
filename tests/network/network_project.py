# SPDX-License-Identifier: Apache-2.0
"""A user's folder with files of two nodes, to be spoilt one thing at a time."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ivc.errors import ConfigError, Finding
from ivc.network import Loaded, load

MAPPING = """\
version = 1
[nodes.hmi]
host = "local"
[nodes.adas]
host = "netns:adas"
"""

_SETTINGS: dict[str, Any] = {
    "netmask": "255.255.255.0",
    "service-discovery": {"enable": "true", "multicast": "224.224.224.245", "port": "30490"},
    "npdu-default-timings": {
        "debounce-time-request": "0",
        "debounce-time-response": "0",
        "max-retention-time-request": "0",
        "max-retention-time-response": "0",
    },
}


class Project:
    """Two good nodes, `hmi` 10.77.0.1 and `adas` 10.77.0.2, as dictionaries free to change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mapping = MAPPING
        self.mapping_name = "mapping.toml"
        self.hmi = self._node("10.77.0.1", "0x1235", "0x0001", "30510")
        self.adas = self._node("10.77.0.2", "0x1234", "0x5678", "30509")
        self.texts: dict[str, str | bytes] = {}

    @staticmethod
    def _node(unicast: str, service: str, instance: str, port: str) -> dict[str, Any]:
        entry = {"service": service, "instance": instance, "unreliable": port}
        return {"unicast": unicast, "services": [entry], **copy.deepcopy(_SETTINGS)}

    def repeat(self, node: str, key: str, value: str) -> None:
        """Write a key twice into a node's file, which no dictionary can hold."""
        text = json.dumps({key: value, **getattr(self, node)}, indent=1)
        self.texts[f"{node}.json"] = text.replace("{", f'{{ "{key}": "again",', 1)

    @property
    def service(self) -> dict[str, Any]:
        """The service of hmi."""
        found: dict[str, Any] = self.hmi["services"][0]
        return found

    def write(self) -> tuple[list[Path], Path]:
        """Write everything; returns the arguments of `load`."""
        texts: dict[str, str | bytes] = {
            "hmi.json": json.dumps(self.hmi, indent=1),
            "adas.json": json.dumps(self.adas, indent=1),
            **self.texts,
        }
        for name, text in texts.items():
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        mapping = self.folder / self.mapping_name
        mapping.write_text(self.mapping)
        return [self.folder / name for name in texts], mapping

    def load(self, paths: Sequence[Path] = ()) -> Loaded:
        """Load what was written, or `paths` of it."""
        written, mapping = self.write()
        return load(paths or written, mapping)

    def findings(self, paths: Sequence[Path] = ()) -> tuple[Finding, ...]:
        """Everything `load` has to say."""
        try:
            return self.load(paths).findings
        except ConfigError as error:
            return error.findings
