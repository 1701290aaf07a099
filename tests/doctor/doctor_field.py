# SPDX-License-Identifier: Apache-2.0
"""Two nodes in two namespaces, joined by a bridge in a third: sound, until a test spoils it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ivc.cli import main

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
NODES = {"hmi": "10.77.0.1", "adas": "10.77.0.2"}


def run_doctor(words: list[str]) -> tuple[int, dict[str, Any]]:
    """Exit code and what it said."""
    out = io.StringIO()
    with redirect_stdout(out):
        code = main(["doctor", "--json", *words])
    return code, json.loads(out.getvalue())


@dataclass
class Field:
    """`do` runs shell text in which hmi, adas and dom0 stand for the namespaces' names."""

    folder: Path
    tag: str = field(default_factory=lambda: f"ivcdoctor-{uuid.uuid4().hex[:6]}")

    def netns(self, name: str) -> str:
        return f"{self.tag}-{name}"

    def do(self, script: str) -> None:
        lines = [f"{name}={self.netns(name)}" for name in (*NODES, "dom0")]
        text = "\n".join(["set -eu", *lines, script])
        done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def plant(self, script: Path, fault: str) -> subprocess.CompletedProcess[str]:
        """Have a program that knows nothing of IVC spoil it."""
        names = {name: self.netns(name) for name in (*NODES, "dom0")}
        return subprocess.run(
            [str(script), fault],
            env={**os.environ, **names},
            capture_output=True,
            text=True,
            check=False,
        )

    def files(self) -> list[str]:
        mapping = "version = 1\n"
        for name in NODES:
            text = (EXAMPLES / f"{name}.json").read_text()
            (self.folder / f"{name}.json").write_text(text)
            mapping += f'[nodes.{name}]\nhost = "netns:{self.netns(name)}"\n'
        (self.folder / "mapping.toml").write_text(mapping)
        names = [str(self.folder / f"{name}.json") for name in NODES]
        return [*names, "--mapping", str(self.folder / "mapping.toml")]

    def doctor(self, *words: str) -> tuple[int, dict[str, Any]]:
        return run_doctor([*self.files(), "--run-dir", str(self.folder / "run"), *words])

    def codes(self, *words: str) -> set[str]:
        """Kinds of errors and warnings."""
        _, document = self.doctor(*words)
        return {one["code"] for one in document["findings"] if one["severity"] != "note"}

    @contextmanager
    def controller(self) -> Iterator[None]:
        files = self.files()
        command = [sys.executable, "-m", "ivc", "controller", *files]
        run_dir = self.folder / "run"
        with subprocess.Popen(
            [*command, "--run-dir", str(run_dir)], stderr=subprocess.DEVNULL
        ) as process:
            try:
                end = time.monotonic() + 30
                while not (run_dir / "match").exists() and time.monotonic() < end:
                    time.sleep(0.02)
                yield
            finally:
                process.terminate()


SOUND = """
for n in $hmi $adas $dom0; do ip netns add $n; done
ip -n $dom0 -batch - <<!
link add br0 type bridge
link set br0 up
link add p1 type veth peer name eth0 netns $hmi
link add p2 type veth peer name eth0 netns $adas
link set p1 master br0 up
link set p2 master br0 up
!
plug() {
    ip -n $1 -batch - <<!
link set lo up
address add $2/24 dev eth0
link set eth0 up
route add 224.0.0.0/4 dev eth0
!
}
plug $hmi 10.77.0.1
plug $adas 10.77.0.2
"""


@contextmanager
def sound_field(folder: Path) -> Iterator[Field]:
    made = Field(folder)
    try:
        made.do(SOUND)
        yield made
    finally:
        for name in (*NODES, "dom0"):
            command = ["ip", "netns", "delete", made.netns(name)]
            subprocess.run(command, check=False, capture_output=True)
