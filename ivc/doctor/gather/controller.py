# SPDX-License-Identifier: Apache-2.0
"""The controller: what it answers, and the match table it publishes."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from construct import ConstructError

from ivc.controller.client import read_status
from ivc.controller.errors import NoController, NotPermitted
from ivc.doctor.facts import Controller, KnownNode
from ivc.platform.linux import MATCH
from ivc.shm.layout import MATCH_MAGIC, MatchHeader


def gather_controller(run_dir: Path) -> Controller:
    """What is found in its run directory."""
    where = str(run_dir)
    try:
        document = read_status(run_dir)
        own = document["controller"]
        return Controller(
            where,
            version=own.get("version"),
            ring_abi=own.get("ring_abi"),
            match_abi=_match_abi(run_dir / MATCH),
            path=own["path"],
            nodes=tuple(map(_node, document["nodes"])),
        )
    except NotPermitted as error:
        return Controller(where, _first(error), is_forbidden=True)
    except NoController as error:
        return Controller(where, _first(error))
    except (KeyError, TypeError, AttributeError):
        return Controller(where, "an answer that is no status document")


def _first(error: Exception) -> str:
    """Without the remedy."""
    return str(error).partition(";")[0]


def _node(node: dict[str, Any]) -> KnownNode:
    return KnownNode(
        str(node["name"]), str(node["address"]), str(node["domain"]), bool(node["quiesced"])
    )


def _match_abi(path: Path) -> int | None:
    """None: there is none, or it is none. On Xen it is not a file."""
    with suppress(OSError, ConstructError):
        with path.open("rb") as file:
            header = MatchHeader.parse(file.read(MatchHeader.sizeof()))
        return int(header.abi) if header.magic == MATCH_MAGIC else -1
    return None
