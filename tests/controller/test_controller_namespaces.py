# SPDX-License-Identifier: Apache-2.0
"""Identity for real: nodes in network namespaces, processes where the kernel says they are."""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from controller_lab import write_network

HERE = Path(__file__).parent


@pytest.fixture
def netns() -> Iterator[dict[str, str]]:
    """Two namespaces, for the nodes a and b."""
    names = {node: f"ivcd-{uuid.uuid4().hex[:8]}" for node in "ab"}
    for name in names.values():
        subprocess.run(["ip", "netns", "add", name], check=True)
    yield names
    for name in names.values():
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.fixture
def run_dir(tmp_path: Path, netns: dict[str, str]) -> Iterator[Path]:
    """A controller with node a and node b in these namespaces."""
    files = write_network(tmp_path, {"a": "10.0.0.1", "b": "10.0.0.2"})
    mapping = tmp_path / "mapping.toml"
    text = mapping.read_text()
    for node, name in netns.items():
        text = text.replace(f'"netns:{node}"', f'"netns:{name}"')
    mapping.write_text(text)
    command = [sys.executable, "-m", "ivc", "controller", *map(str, files), "--mapping"]
    command += [str(mapping), "--run-dir", str(tmp_path / "run")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "ready" in line:
                break
        yield tmp_path / "run"
        process.terminate()


def a_process(run_dir: Path, netns: str, local: str) -> list[str]:
    """What a process in a namespace that claims an address sees of the controller."""
    program = [sys.executable, str(HERE / "fakewrapper.py"), str(run_dir), local]
    command = ["ip", "netns", "exec", netns, *program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.split()


def test_a_process_belongs_to_the_node_of_its_namespace(
    run_dir: Path, netns: dict[str, str]
) -> None:
    assert a_process(run_dir, netns["a"], "10.0.0.1:4711") == ["node", "1", "kept"]
    assert a_process(run_dir, netns["b"], "10.0.0.2:4711") == ["node", "2", "kept"]


def test_an_address_of_another_namespace_cannot_be_claimed(
    run_dir: Path, netns: dict[str, str]
) -> None:
    assert a_process(run_dir, netns["a"], "10.0.0.2:4711") == ["node", "1", "thrown", "out"]


def test_who_is_in_no_node_has_no_node(run_dir: Path) -> None:
    program = [sys.executable, str(HERE / "fakewrapper.py"), str(run_dir), "10.0.0.1:4711"]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.split() == ["node", "0", "thrown", "out"]


def test_a_namespace_made_anew_is_noticed(run_dir: Path, netns: dict[str, str]) -> None:
    subprocess.run(["ip", "netns", "delete", netns["a"]], check=True)
    subprocess.run(["ip", "netns", "add", netns["a"]], check=True)
    inode = Path(f"/run/netns/{netns['a']}").stat().st_ino
    deadline = time.monotonic() + 5
    while status(run_dir)["nodes"][0]["host"] != inode:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert a_process(run_dir, netns["a"], "10.0.0.1:4711") == ["node", "1", "kept"]


def test_run_starts_a_program_where_its_node_is(
    run_dir: Path, netns: dict[str, str], tmp_path: Path
) -> None:
    library = tmp_path / "libivcsock.so"
    subprocess.run(["gcc", "-shared", "-o", str(library), "-x", "c", "/dev/null"], check=True)
    shown = subprocess.run(
        [
            *(sys.executable, "-m", "ivc", "run", "--node", "b", "--run-dir", str(run_dir), "--"),
            *("sh", "-c", "stat -Lc %i /proc/self/ns/net; echo $LD_PRELOAD; exit 7"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={"IVC_LIBRARY": str(library), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
    )
    inode = str(Path(f"/run/netns/{netns['b']}").stat().st_ino)
    assert (shown.stdout.split(), shown.returncode) == ([inode, str(library)], 7)


def status(run_dir: Path) -> dict[str, list[dict[str, int]]]:
    command = [sys.executable, "-m", "ivc", "status", "--json", "--run-dir", str(run_dir)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    document: dict[str, list[dict[str, int]]] = json.loads(shown.stdout)
    return document
