# SPDX-License-Identifier: Apache-2.0
"""Every command in README and docs: run as it stands there, or listed here with the reason why not.

They run in a mount and a network namespace of their own, where /run is empty: names of namespaces,
the run directory and interfaces are those of the docs and nobody else's. README's walk by hand
begins, and what it has started runs until the end.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ivc.cli import parser

ROOT = Path(__file__).resolve().parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

PROGRAMS = (
    r"(?:ivc|python3|sh|export|git|apt-get|modprobe|groupadd|chgrp|chmod|systemctl|xl|nft|ip)"
)
BEGINS = re.compile(rf"(?:{PROGRAMS}|\.venv/bin/python|build\.py|LD_PRELOAD=\S+) \S")
MENTION = re.compile(r"ivc( [a-z]+)+")
"""A command's name in a sentence, without arguments."""

BY_HAND = re.compile(r"    (export PATH=.*\n(?:    .+\n)+)")

NOT_RUN = {
    r"python3 build\.py$": "tests/test_build.py",
    r"python3 build\.py demo": "tests/test_demo.py",
    r"python3 build\.py (test|full)": "this is it",
    r"(python3 )?build\.py bench": "tests/bench",
    r"\.venv/bin/python -m bench\.": "takes minutes, and programs this machine may not have",
    r"(python3 )?build\.py conformance": "takes minutes; tests/lab/test_conformance.py",
    r"(python3 )?build\.py xen|ivc lab xen": "tests/xen",
    r"(python3 )?build\.py (install|preload)": "tests/test_build.py",
    r"(python3 )?build\.py full": "this is it",
    r"python3 -m pytest examples": "tests/lab/test_pytest_plugin.py",
    r"LD_PRELOAD=libivcsock\.so": "with the library installed: tests/test_build.py",
    r"git clone": "the network",
    r"apt-get": "changes the machine; tests/test_build.py knows the names",
    r"(modprobe|groupadd|chgrp|chmod) ": "in a guest's image; tests/xen makes such guests",
    r"(systemctl|xl) |ivc (un)?quiesce adas && xl|xl restore": "on Xen: tests/xen",
    r"ip link$|nft list table bridge ivc": "told of what it shows",
    r"ivc trace( |$)": "says nothing before messages come; tests/observe/test_trace_*.py",
    r"ivc top": "wants a terminal; tests/observe",
    r"ivc controller --quota": "options alone; the test below knows them",
}

SUBSTITUTES = {
    "[-- APP ARGS...]": "",
    "[CONFIG...]": "CONFIG...",
    "[CONFIG... --mapping M]": "CONFIG... --mapping M",
    "CONFIG...": "examples/*.json",
    "--mapping M": "--mapping mapping.toml",
    "DOMAIN": "ivc-adas",
    "PROGRAM": "./my-ecu",
    "MODE": "audit",
    "/var/lib/node_exporter/": "./",
    "/usr/share/bash-completion/completions/": "./",
}
ENDLESS = re.compile(r"ivc (controller .*\.json|metrics --listen|graph .*--live|status .*--watch)")
OTHER_STATUS = {r"ivc ethernet .*--dry-run": 4}


class Command(NamedTuple):
    """Where it stands, and the text; `is_mention` if a sentence only calls it by its name."""

    place: str
    text: str
    is_mention: bool = False

    def __str__(self) -> str:
        return f"{self.place} {self.text}"


def commands(path: Path) -> Iterator[Command]:
    """Lines of indented and fenced blocks that begin like a command; inline code likewise."""
    fence: str | None = None
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        place = f"{path.relative_to(ROOT)}:{number}"
        if line.startswith("```"):
            fence = line[3:] if fence is None else None
        elif fence in ("", "sh") or (fence is None and line.startswith("    ")):
            text = re.sub(r"\s+#.*", "", line.strip())
            if BEGINS.match(text):
                yield Command(place, text)
        elif fence is None:
            for text in filter(BEGINS.match, re.findall(r"`([^`]+)`", line)):
                yield Command(place, text, MENTION.fullmatch(text) is not None)


ALL = [command for path in DOCS for command in commands(path)]
REASONS = [re.compile(pattern) for pattern in NOT_RUN]
WALK = [
    re.sub(r"\s+#.*", "", line.strip())
    for line in BY_HAND.findall((ROOT / "README.md").read_text())[0].splitlines()
]
END = "sh examples/hosts.sh delete"
RUN = [
    command
    for command in ALL
    if not command.is_mention
    and command.text not in (*WALK, END)
    and not any(reason.match(command.text) for reason in REASONS)
]


def concrete(text: str) -> str:
    """Without what may be left out, and with something for each name of something."""
    for name, value in SUBSTITUTES.items():
        text = text.replace(name, value)
    if text.startswith("ivc ethernet"):
        text = text.replace("mapping.toml", "ethernet.toml")
    return re.sub(r"\s*\[[^\]]*\](\.\.\.)?", "", text)


class Stage:
    """Where they run: `folder` is the working directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        script = "mount -t tmpfs none /run && mkdir /run/netns && ip link set lo up && "
        script += "ip link add eth1 type veth peer name wire && echo ready && exec sleep infinity"
        apart = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script]
        self.holder = subprocess.Popen(apart, stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout is not None and self.holder.stdout.readline() == "ready\n"

    def begin(self, text: str) -> subprocess.Popen[str]:
        """Start it; its output is in the files of that number."""
        path = f"export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={ROOT}"
        enter = [
            "nsenter",
            f"--target={self.holder.pid}",
            "--net",
            "--mount",
            f"--wd={self.folder}",
        ]
        number = len(self.started)
        with self.file(number, "out").open("w") as out, self.file(number, "err").open("w") as err:
            process = subprocess.Popen(
                [*enter, "setpriv", "--pdeathsig", "KILL", "sh", "-c", f"{path}\n{text}"],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                text=True,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def file(self, number: int, kind: str) -> Path:
        return self.folder / f"{number}.{kind}"

    def said(self, process: subprocess.Popen[str]) -> str:
        number = self.started.index(process)
        return "".join(self.file(number, kind).read_text() for kind in ("out", "err"))

    def wait_until_said(self, process: subprocess.Popen[str], text: str) -> None:
        deadline = time.monotonic() + 30
        while text not in self.said(process):
            assert process.poll() is None and time.monotonic() < deadline, self.said(process)
            time.sleep(0.05)

    def run(self, text: str) -> tuple[int, str]:
        process = self.begin(text)
        return process.wait(60), self.said(process)

    def close(self) -> None:
        for process in reversed(self.started):
            if process.poll() is None:
                process.terminate()
                process.wait(10)
        self.holder.kill()
        self.holder.wait()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """README's walk, with both programs talking."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "examples", folder / "examples")
    (folder / "mapping.toml").symlink_to("examples/mapping.toml")
    text = (folder / "mapping.toml").read_text()
    text += '\n[nodes.tcu]\nexternal = true\naddress = "10.77.0.9"\n'
    text += '[ethernet]\nbridge = "xenbr0"\ninterface = "eth1"\n'
    (folder / "ethernet.toml").write_text(text)
    (folder / "my-ecu").write_text("#!/bin/sh\nexit 0\n")
    (folder / "my-ecu").chmod(0o755)
    made = Stage(folder)
    try:
        _path, controller, server, client, status = WALK
        made.wait_until_said(made.begin(controller), "ready")
        made.begin(server)
        made.wait_until_said(made.begin(client), "\n")
        code, said = made.run(status)
        assert code == 0 and "direct" in said, said
        yield made
        assert made.run(END) == (0, "")
    finally:
        made.close()


def test_every_command_of_the_docs_is_seen() -> None:
    """At least those of README: whoever changes how they are written changes this test."""
    readme = [command for command in ALL if command.place.startswith("README.md")]
    assert len(readme) > 40 and len(ALL) > 100


def test_reasons_are_of_commands_that_are_there() -> None:
    unused = [one.pattern for one in REASONS if not any(one.match(c.text) for c in ALL)]
    assert unused == []


@pytest.mark.parametrize("text", sorted({command.text for command in ALL if command.is_mention}))
def test_a_command_that_is_mentioned_exists(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parser().parse_args([*text.split()[1:], "--help"])
    assert exit_.value.code == 0 and f"usage: {text.rpartition(' ')[0]}" in capsys.readouterr().out


OPTION = re.compile(r"(?<![\w-])--?[a-z][\w-]*")


@pytest.mark.parametrize("command", [c for c in ALL if c.text.startswith("ivc ")], ids=str)
def test_every_option_of_a_command_exists(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of those that are not run, and of what may be left out."""
    own = re.split(r" -- | && | >| \\?\| ", re.sub(r"\[-- .*", "", command.text))[0]
    words = [word for word in own.split()[1:3] if re.fullmatch("[a-z]+", word)]
    depth = 2 if words[:1] and words[0] in ("ethernet", "fault", "lab") else 1
    with pytest.raises(SystemExit):
        parser().parse_args([*words[:depth], "-h"])
    told = set(OPTION.findall(capsys.readouterr().out))
    assert set(OPTION.findall(own)) <= told


@pytest.mark.parametrize("command", RUN, ids=str)
def test_a_command_of_the_docs_runs(stage: Stage, command: Command) -> None:
    text = concrete(command.text)
    expected = next((n for p, n in OTHER_STATUS.items() if re.match(p, text)), 0)
    if ENDLESS.match(text):
        process = stage.begin(f"exec {text}{' --run-dir other' * ('controller' in text)}")
        stage.wait_until_said(process, "\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) in (0, 130)
    else:
        code, said = stage.run(text)
        assert code == expected, said
