# SPDX-License-Identifier: Apache-2.0
"""The controller as a program: starting, stopping, reloading, dying, and what it leaves."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakewrapper import FakeWrapper

from ivc.controller.protocol import Type
from ivc.reasons import Reason
from ivc.shm.layout import MATCH_MAGIC, MatchEntry, MatchHeader, MatchKind

SERVICE = {"service": "0x1234", "instance": "1", "unreliable": "30509"}
TIMINGS = ("debounce-time-request", "debounce-time-response")
RETENTION = ("max-retention-time-request", "max-retention-time-response")
SERVER, CLIENT = "127.0.0.2:30509", "127.0.0.1:40000"


class Program:
    """`ivc controller` on two nodes, 127.0.0.1 and 127.0.0.2, both on this host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        self.errors = folder / "stderr"
        self.process: subprocess.Popen[bytes] | None = None
        self.write_config()
        self.write_mapping()

    def write_config(self) -> None:
        for number, name in enumerate(("a", "b"), start=1):
            document = {
                "unicast": f"127.0.0.{number}",
                "netmask": "255.0.0.0",
                "services": [SERVICE] if name == "b" else [],
                "service-discovery": {"multicast": "224.224.224.245", "port": "30490"},
                "npdu-default-timings": dict.fromkeys((*TIMINGS, *RETENTION), "0"),
            }
            (self.folder / f"{name}.json").write_text(json.dumps(document))

    def write_mapping(self, defaults: str = "") -> None:
        nodes = '[nodes.a]\nhost = "local"\n[nodes.b]\nhost = "local"\n'
        (self.folder / "m.toml").write_text(f"version = 1\n{defaults}\n{nodes}")

    def command(self, *options: str) -> list[str]:
        files = [str(self.folder / name) for name in ("a.json", "b.json")]
        mapping = ["--mapping", str(self.folder / "m.toml"), "--run-dir", str(self.run_dir)]
        return [sys.executable, "-m", "ivc", "controller", *files, *mapping, *options]

    def start(self, *options: str, environment: dict[str, str] | None = None) -> None:
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                self.command(*options), stderr=errors, env={**os.environ, **(environment or {})}
            )
        self.await_words("ready")

    def await_words(self, words: str) -> None:
        deadline = time.monotonic() + 10
        while words not in self.errors.read_text():
            assert self.process is not None and self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < deadline, self.errors.read_text()
            time.sleep(0.01)

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(10)

    def status(self) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ivc", "status", "--json", "--run-dir", str(self.run_dir)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def match_table(self) -> tuple[int, list[tuple[int, int, int]]]:
        """Serial, and (kind, node, netns) of each entry."""
        raw = (self.run_dir / "match").read_bytes()
        header = MatchHeader.parse(raw)
        assert header.magic == MATCH_MAGIC
        size = MatchEntry.sizeof()
        starts = range(64, 64 + size * header.entries, size)
        entries = [MatchEntry.parse(raw[start : start + size]) for start in starts]
        return header.serial, [(entry.kind, entry.node, entry.netns) for entry in entries]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


@pytest.fixture
def wrapper(program: Program) -> Iterator[Callable[[], FakeWrapper]]:
    made: list[FakeWrapper] = []

    def connect() -> FakeWrapper:
        made.append(FakeWrapper(program.run_dir))
        made[-1].friends = made
        return made[-1]

    yield connect
    for each in list(made):
        each.close()


def active_pair(connect: Callable[[], FakeWrapper]) -> tuple[FakeWrapper, FakeWrapper]:
    client, server = connect(), connect()
    server.bind(1, SERVER)
    client.bind(1, CLIENT)
    client.want(1, CLIENT, SERVER)
    client.await_active(SERVER)
    return client, server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_told_and_leaves_only_its_lock(program: Program, number: int) -> None:
    program.start()
    assert program.end(number) == 0
    assert [path.name for path in program.run_dir.iterdir()] == ["lock"]


def test_a_second_one_in_the_same_run_dir_is_refused(program: Program) -> None:
    program.start()
    second = subprocess.run(program.command(), capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "already running" in second.stderr
    assert json.loads(program.status().stdout)["nodes"]


def test_it_starts_again_after_kill_9(program: Program) -> None:
    program.start()
    program.end(signal.SIGKILL)
    program.start()
    assert program.status().returncode == 0


def test_wrappers_come_back_to_a_new_controller(
    program: Program, wrapper: Callable[[], FakeWrapper]
) -> None:
    program.start()
    client, server = active_pair(wrapper)
    program.end(signal.SIGKILL)
    client.await_hangup()
    client.send(SERVER, b"by the old flow")
    assert server.receive(1)[1] == b"by the old flow"
    client.close()
    server.close()
    program.start()
    client, server = active_pair(wrapper)
    client.send(SERVER, b"by the new flow")
    assert server.receive(1)[1] == b"by the new flow"


def test_descriptors_and_memory_return_to_the_start(
    program: Program, wrapper: Callable[[], FakeWrapper]
) -> None:
    program.start()
    assert program.process is not None
    proc = Path(f"/proc/{program.process.pid}")

    def held() -> tuple[int, int]:
        return len(list((proc / "fd").iterdir())), (proc / "maps").read_text().count("memfd:ivc")

    before = held()
    for _ in range(5):
        for end in active_pair(wrapper):
            end.close()
    deadline = time.monotonic() + 5
    while held() != before:
        assert time.monotonic() < deadline, (before, held())
        time.sleep(0.01)


def test_status_without_a_controller_is_exit_code_5(program: Program) -> None:
    done = program.status()
    assert (done.returncode, done.stdout) == (5, "")
    assert "no controller" in done.stderr


def test_a_bad_configuration_starts_nothing(program: Program) -> None:
    (program.folder / "a.json").write_text("{")
    done = subprocess.run(program.command(), capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert not program.run_dir.exists()


def test_the_match_table_says_where_the_nodes_are(program: Program) -> None:
    program.start()
    here = Path("/proc/self/ns/net").stat().st_ino
    _, entries = program.match_table()
    assert entries == [
        (MatchKind.NODE, 1, here),
        (MatchKind.NODE, 2, here),
        (MatchKind.GROUP, 0, 0),
    ]


def test_sighup_applies_a_new_plan(program: Program, wrapper: Callable[[], FakeWrapper]) -> None:
    program.start()
    client, _ = active_pair(wrapper)
    serial, _ = program.match_table()
    program.write_mapping('[defaults]\npath = "network"')
    assert program.process is not None
    program.process.send_signal(signal.SIGHUP)
    client.await_message(Type.TABLE)
    assert client.await_message(Type.CLOSE).reason == Reason.RULE
    client.await_route(SERVER, Reason.RULE)
    assert program.match_table()[0] > serial


def test_sighup_with_a_bad_configuration_keeps_the_last_good_one(
    program: Program, wrapper: Callable[[], FakeWrapper]
) -> None:
    program.start()
    client, server = active_pair(wrapper)
    (program.folder / "a.json").write_text("{")
    assert program.process is not None
    program.process.send_signal(signal.SIGHUP)
    program.await_words("the last good one stays")
    client.send(SERVER, b"still there")
    assert server.receive(1)[1] == b"still there"
    assert len(json.loads(program.status().stdout)["flows"]) == 1


def test_a_new_path_rebuilds_the_flows(
    program: Program, wrapper: Callable[[], FakeWrapper]
) -> None:
    program.start()
    client, server = active_pair(wrapper)
    program.write_mapping('[defaults]\npath = "relay"')
    assert program.process is not None
    program.process.send_signal(signal.SIGHUP)
    assert client.await_message(Type.CLOSE).reason == Reason.REPLANNED
    client.await_active(SERVER)
    client.send(SERVER, b"relayed")
    assert server.receive(1)[1] == b"relayed"
    assert json.loads(program.status().stdout)["sockets"][0]["path"] == "relay"


def test_the_path_of_the_command_line_wins(program: Program) -> None:
    program.write_mapping('[defaults]\npath = "direct"')
    program.start("--path", "relay")
    assert json.loads(program.status().stdout)["controller"]["path"] == "relay"


def test_who_does_not_read_the_status_keeps_nobody_waiting(program: Program) -> None:
    program.start()
    readers = []
    for _ in range(30):
        readers.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        readers[-1].connect(str(program.run_dir / "status"))
    assert program.status().returncode == 0
    for reader in readers:
        reader.close()


def test_systemd_hears_that_it_is_ready(program: Program) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        path = str(program.folder / "notify")
        listener.bind(path)
        listener.settimeout(5)
        program.start(environment={"NOTIFY_SOCKET": path})
        assert listener.recv(100) == b"READY=1"


def test_the_control_socket_is_not_for_everybody(program: Program) -> None:
    program.start()
    assert (program.run_dir / "control").stat().st_mode & 0o777 == 0o660


# ---- reload and plan --diff


def ivc(program: Program, *words: str) -> subprocess.CompletedProcess[str]:
    """A command about this controller: a reload, or a plan of its files."""
    files = program.command()[4:] if words[0] == "plan" else program.command()[-2:]
    command = [sys.executable, "-m", "ivc", *words, *files]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_reload_answers_when_the_new_plan_is_applied(
    program: Program, wrapper: Callable[[], FakeWrapper]
) -> None:
    program.start()
    client, _ = active_pair(wrapper)
    program.write_mapping('[defaults]\npath = "network"')
    done = ivc(program, "reload")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "~ plan: path direct -> network",
        "~ pair a,b: path direct -> network",
        "~ pair a,b: reason NONE -> RULE",
        "~ pair a,b: flows 6 -> 0",
        "~ pair a,b: memory 245760 -> 0",
    ]
    client.await_route(SERVER, Reason.RULE)
    assert ivc(program, "reload").stdout == "the plan has not changed\n"


def test_reload_of_a_bad_rule_changes_nothing_and_says_why(
    program: Program, wrapper: Callable[[], FakeWrapper]
) -> None:
    program.start()
    client, server = active_pair(wrapper)
    program.write_mapping('[[rule]]\nfrom = "van"\naction = "deny"')
    done = ivc(program, "reload")
    assert done.returncode == 3
    assert done.stderr.startswith("nothing is changed:\n") and "[rule-node]" in done.stderr
    client.send(SERVER, b"still there")
    assert server.receive(1)[1] == b"still there"
    answer = json.loads(ivc(program, "reload", "--json").stdout)
    assert (answer["exit_code"], "[rule-node]" in answer["error"]) == (3, True)


@pytest.mark.parametrize("words", [("reload",), ("plan", "--diff")])
def test_without_a_controller_there_is_nothing_to_compare_with(
    program: Program, words: tuple[str, ...]
) -> None:
    assert ivc(program, *words).returncode == 5


def test_plan_diff_shows_what_a_reload_would_change_and_changes_nothing(program: Program) -> None:
    program.start()
    assert (ivc(program, "plan", "--diff").returncode) == 0
    program.write_mapping('[[rule]]\nfrom = "a"\nservice = 0x1234\nmethod = 1\naction = "deny"')
    for _ in range(2):
        done = ivc(program, "plan", "--diff")
        assert done.returncode == 4
        assert done.stdout.splitlines() == [
            "~ pair a,b: memory 245760 -> 319488",
            "+ rule 1",
            "+ way a b udp 0x1234.0x0001",
        ]
    assert json.loads(ivc(program, "plan", "--diff", "--json").stdout)[1] == "+ rule 1"
    assert ivc(program, "reload").returncode == 0
    assert ivc(program, "plan", "--diff").stdout == "no difference\n"


def test_plan_diff_knows_the_path_of_the_controllers_command_line(program: Program) -> None:
    program.start("--path", "relay")
    assert ivc(program, "plan", "--diff").returncode == 0
