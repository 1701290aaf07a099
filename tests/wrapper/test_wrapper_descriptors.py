# SPDX-License-Identifier: Apache-2.0
"""However a descriptor lives and dies, a program sees what it sees without the wrapper."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from stream_lab import StreamNet, Way
from valgrind import valgrind
from wrapper_lab import Mode, Net

import build
from ivc.controller.client import read_status

SOURCE = Path(__file__).with_name("descriptors.c")
CASES = re.findall(r'^    \{"(.+)", \w+\},$', SOURCE.read_text(), re.MULTILINE)
NOT_FOR_VALGRIND = {
    "exec": "it starts itself anew, which is valgrind there",
    "exec with CLOEXEC": "the same",
    "exec with an echo unread": "the same",
    "handlers": "too many for its pace",
    "vectors": "the kernel is shown more pieces than there are, on purpose",
}
SPIN = {"spinning": {}, "blocking": {"IVC_SPIN_US": "0"}}
NUMBER = re.compile(r"message \d+ of \d+")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("descriptors") / "descriptors"
    subprocess.run([*build.COMPILE, "-D_FORTIFY_SOURCE=2", SOURCE, "-o", made], check=True)
    return made


class Subject:
    """The program on `left`, its peer an agent on `right`; `words` is what it said."""

    def __init__(
        self,
        net: Net | StreamNet,
        program: Path,
        case: str,
        env: dict[str, str],
        under: Sequence[str] = (),
    ) -> None:
        if isinstance(net, Net):
            sock, address = net.server()
            sock.agent.module("routines").start.echo(sock, b"end")
        else:
            sock, address = net.listen()
            sock.agent.module("routines").start.echo_each(sock)
        protocol, left = "udp" if isinstance(net, Net) else "tcp", net.lab["left"]
        command = [
            *under,
            str(program),
            protocol,
            str(left.address.ip),
            address[0],
            str(address[1]),
            case,
        ]
        process = left.popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            self.ringed = 0
            for _ in range(10):
                self._warm(net, process)
                if self.ringed or not env:
                    break
                self._tell(process, "more\n")
            self.words, _ = process.communicate("go on\n", timeout=8)
            self.status = process.returncode
        finally:
            process.kill()
            process.communicate()
            net.reset()

    def _warm(self, net: Net | StreamNet, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stdout.readline() == "warm\n"
        self.ringed = sum(
            one["counters"]["rx_ring_msgs"]
            for one in read_status(net.run_dir)["sockets"]
            if one["pid"] == process.pid
        )

    def _tell(self, process: subprocess.Popen[str], line: str) -> None:
        assert process.stdin is not None
        process.stdin.write(line)
        process.stdin.flush()


@pytest.fixture(scope="module")
def native(
    nets: Mapping[Mode, Net], stream_nets: Mapping[Way, StreamNet], program: Path
) -> dict[tuple[str, str], str]:
    """What each case says without the wrapper, filled in when first asked for."""
    return {}


@pytest.mark.parametrize("how", SPIN)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_the_same_as_without_the_wrapper(
    nets: Mapping[Mode, Net],
    stream_nets: Mapping[Way, StreamNet],
    native: dict[tuple[str, str], str],
    program: Path,
    protocol: str,
    case: str,
    how: str,
) -> None:
    bare: Net | StreamNet = nets[Mode.NATIVE] if protocol == "udp" else stream_nets[Way.NATIVE]
    net: Net | StreamNet = nets[Mode.DIRECT] if protocol == "udp" else stream_nets[Way.EAGER]
    if (protocol, case) not in native:
        without = Subject(bare, program, case, {})
        assert (without.status, without.ringed) == (0, 0)
        native[protocol, case] = without.words
    wrapped = Subject(net, program, case, net.env | SPIN[how])
    assert wrapped.words == native[protocol, case]
    assert wrapped.status == 0
    assert wrapped.ringed > 0


@pytest.mark.skipif(not os.environ.get("IVC_FULL"), reason="slow: build.py full")
@pytest.mark.parametrize("case", [case for case in CASES if case not in NOT_FOR_VALGRIND])
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_valgrind_finds_nothing(
    nets: Mapping[Mode, Net],
    stream_nets: Mapping[Way, StreamNet],
    tmp_path: Path,
    program: Path,
    protocol: str,
    case: str,
) -> None:
    """The process itself, not its children, whose leaks may be what a case is about."""
    net: Net | StreamNet = nets[Mode.DIRECT] if protocol == "udp" else stream_nets[Way.EAGER]
    under = [*valgrind(), f"--log-file={tmp_path}/report-%p"]
    assert Subject(net, program, case, net.env, under).status == 0
    assert {file.read_text() for file in tmp_path.glob("report*")} == {""}


# ---- beside others --------------------------------------------------------------------


def allocator(name: str, package: str) -> str:
    """A library that replaces malloc, wherever the loader finds it."""
    listed = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    found = re.search(rf"{re.escape(name)}\S* .*=> (\S+)", listed)
    if not found:
        pytest.skip(f"needs {name}: apt-get install {package}")
    return found[1]


ALLOCATORS = {"libjemalloc.so": "libjemalloc2", "libtcmalloc_minimal.so": "libtcmalloc-minimal4"}


@pytest.mark.parametrize("order", ["before", "behind"])
@pytest.mark.parametrize("name", ALLOCATORS)
def test_beside_an_allocator(
    stream_nets: Mapping[Way, StreamNet], program: Path, name: str, order: str
) -> None:
    net = stream_nets[Way.EAGER]
    subject = Subject(net, program, "talk", beside(net, allocator(name, ALLOCATORS[name]), order))
    assert (subject.words, subject.status) == ("at last: 1\n", 0)
    assert subject.ringed > 0


@pytest.mark.parametrize("order", ["before", "behind"])
def test_beside_another_preload(
    stream_nets: Mapping[Way, StreamNet], program: Path, tmp_path: Path, order: str
) -> None:
    """Before us it sees all calls; behind us those that go to the kernel by its functions."""
    net = stream_nets[Way.EAGER]
    other = tmp_path / "other.so"
    source = SOURCE.with_name("other_preload.c")
    subprocess.run([*build.COMPILE, "-shared", "-fPIC", source, "-o", other], check=True)
    subject = Subject(net, program, "talk", beside(net, str(other), order))
    seen = int(order == "before")
    assert subject.words == f"at last: 1\nthe other preload: {seen}\n"
    assert subject.ringed > 0


def test_a_program_built_with_address_sanitizer(
    stream_nets: Mapping[Way, StreamNet], tmp_path: Path
) -> None:
    net = stream_nets[Way.EAGER]
    program = tmp_path / "descriptors"
    subprocess.run([*build.COMPILE, "-fsanitize=address", SOURCE, "-o", program], check=True)
    named = ["gcc", "-print-file-name=libasan.so"]
    runtime = subprocess.run(named, capture_output=True, text=True, check=True).stdout.strip()
    env = beside(net, runtime, "before") | {"ASAN_OPTIONS": "detect_leaks=0"}
    for case in ("talk", "handlers", "masked waits", "close_range", "fork", "exec"):
        assert Subject(net, program, case, env).status == 0, case


def beside(net: StreamNet, other: str, order: str) -> dict[str, str]:
    ours = net.env["LD_PRELOAD"]
    both = f"{other} {ours}" if order == "before" else f"{ours} {other}"
    return net.env | {"LD_PRELOAD": both}
