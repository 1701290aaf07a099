# SPDX-License-Identifier: Apache-2.0
"""`ivc run`: start a program under the wrapper, in the place of its node."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ivc.controller.client import read_status
from ivc.controller.errors import ControllerError, NotPermitted

LIBRARY: Final = "libivcsock.so"

_ROOT: Final = Path(__file__).resolve().parents[2]
_INSTALLED: Final = (Path("/usr/local/lib"), Path("/usr/lib"))

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126


def find_library(environment: Mapping[str, str]) -> Path:
    """The wrapper: IVC_LIBRARY, else as built in this source tree, else as installed.

    Raises `ControllerError`.
    """
    named = environment.get("IVC_LIBRARY")
    places = (
        [Path(named)]
        if named
        else [_ROOT / "build" / LIBRARY, *(folder / LIBRARY for folder in _INSTALLED)]
    )
    for place in places:
        if place.is_file():
            return place.resolve()
    looked = ", ".join(map(str, places))
    raise ControllerError(
        f"no {LIBRARY} at {looked}; build it (python3 build.py), or set IVC_LIBRARY"
    )


def wrapped_environment(
    environment: Mapping[str, str], library: Path, run_dir: Path
) -> dict[str, str]:
    """The environment with our library first in LD_PRELOAD, others kept."""
    others = [name for name in environment.get("LD_PRELOAD", "").replace(":", " ").split() if name]
    preload = ":".join([str(library), *(name for name in others if name != str(library))])
    return {**environment, "LD_PRELOAD": preload, "IVC_RUN_DIR": str(run_dir.absolute())}


def enter_node(node: str, run_dir: Path) -> None:
    """Move this process into the network namespace of a node.

    Raises `ControllerError`, `NotPermitted`.
    """
    nodes = {entry["name"]: entry for entry in read_status(run_dir)["nodes"]}
    if node not in nodes:
        raise ControllerError(f"no node {node}; there are {', '.join(sorted(nodes)) or 'none'}")
    domain = nodes[node]["domain"]
    if domain == "local":
        return
    kind, _, name = domain.partition(":")
    if kind != "netns":
        raise ControllerError(
            f"node {node} is {domain}: programs cannot be started there from here"
        )
    _enter_namespace(name)


def _enter_namespace(name: str) -> None:
    from ivc.netns import enter, path_of  # ctypes, which is long to import

    path = path_of(name)
    try:
        enter(name)
    except PermissionError as error:
        raise NotPermitted(f"cannot enter {path}: {error.strerror}; run it as root") from error
    except FileNotFoundError as error:
        raise ControllerError(
            f"cannot enter {path}: there is none; make it: ip netns add {path.name}"
        ) from error
    except OSError as error:
        raise ControllerError(f"cannot enter {path}: {error.strerror}") from error


def execute(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Become `command`. Returns only if that fails: 127 not found, 126 not executable."""
    try:
        os.execvpe(command[0], list(command), environment)  # never returns
    except FileNotFoundError:
        return NOT_FOUND
    except OSError:
        return NOT_EXECUTABLE
