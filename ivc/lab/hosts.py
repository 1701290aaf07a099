# SPDX-License-Identifier: Apache-2.0
"""Hosts to try IVC on: network namespaces behind a bridge, as guests are behind dom0's.

Every host is a namespace with one interface, `eth0`. A further namespace plays
dom0: it holds the bridge `br0` whose ports `p0`, `p1`, ... lead to the hosts.
Nothing is made in the namespace the program was started in, so there is nothing
there to forget: deleting the namespaces deletes all of it.

Where namespaces cannot be made the hosts are 127.x addresses on the loopback
interface (`Lab.bridge` is None then): it runs, but there is no wire to look at.
"""

from __future__ import annotations

import contextlib
import enum
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path
from typing import IO, Any

from ivc.errors import IvcError

PREFIX = "ivclab"
_NETNS_DIR = Path("/run/netns")
_REEXEC_MARK = "IVC_LAB_IN_USER_NAMESPACE"


class LabError(IvcError):
    """The laboratory could not be set up; the text says what to do."""


class Mode(enum.StrEnum):
    """What the hosts are made of."""

    ROOT = "root"
    """network namespaces, made as root"""
    USER = "user"
    """network namespaces inside a user namespace of our own"""
    LOOPBACK = "loopback"
    """127.x addresses; no namespaces, no bridge"""


@dataclass(frozen=True, slots=True)
class Host:
    """One host of the laboratory.

    `netns` is the name of its network namespace, None on loopback.
    `port` is the bridge's interface that leads to it, None on loopback.
    """

    name: str
    address: IPv4Interface
    netns: str | None
    port: str | None

    def command(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
        """The command line that runs `argv` on this host with `env` added.

        The variables are set by the last link of the chain, so that an
        LD_PRELOAD reaches the program and none of the helpers. Every link
        execs the next: the process id is the program's own. The second link
        looks whether this process still lives, for it may have died before the
        first could ask to be killed with it.
        """
        line = ["setpriv", "--pdeathsig", "KILL"]
        line += ["sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid())]
        if self.netns is not None:
            line = ["nsenter", f"--net={_NETNS_DIR / self.netns}", *line]
        if env:
            line += ["env", *(f"{key}={value}" for key, value in env.items())]
        return [*line, *argv]

    def popen(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program on this host, in a session of its own.

        A session of its own, so that Ctrl-C reaches the laboratory alone and
        it can end its programs in order; should the laboratory itself be
        killed, the kernel kills them (PR_SET_PDEATHSIG).
        """
        process = None
        try:
            with _signals_held():  # a Popen cut short forgets the process it has made
                process = subprocess.Popen(
                    self.command(argv, env),
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    text=True,
                    start_new_session=True,
                )
        except BaseException:
            if process is not None:
                stop(process)
            raise
        return process

    def run(self, *argv: str) -> str:
        """Run a program on this host and return what it printed. Raises LabError."""
        return _run(*self.command(argv))


def stop(process: subprocess.Popen[str], patience: float = 3.0) -> int:
    """End a process: SIGTERM, then after `patience` seconds SIGKILL. Returns its status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


class Lab:
    """Hosts joined by a bridge, for the time of a `with` block.

    `members` maps host names to their addresses ("10.77.0.1/24").
    `directory` is an empty folder for whatever runs in it, removed at the end.
    """

    def __init__(self, members: Mapping[str, str], mode: Mode | None = None) -> None:
        self.mode = mode if mode is not None else available_mode()
        self._tag = f"{PREFIX}-{os.getpid()}-{_start_time(os.getpid())}-{secrets.token_hex(2)}"
        self.directory = Path(tempfile.gettempdir()) / self._tag
        inside = self.mode is not Mode.LOOPBACK
        self.hosts = tuple(
            Host(
                name=name,
                address=IPv4Interface(address),
                netns=f"{self._tag}-{name}" if inside else None,
                port=f"p{number}" if inside else None,
            )
            for number, (name, address) in enumerate(members.items())
        )
        self.bridge: Host | None = (
            Host("dom0", IPv4Interface("0.0.0.0/0"), f"{self._tag}-dom0", "br0") if inside else None
        )

    def __getitem__(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def __enter__(self) -> Lab:
        remove_leftovers()
        try:
            with _signals_held():  # an `ip` cut short could still act after the cleaning
                self.directory.mkdir(mode=0o700)
                if self.bridge is not None:
                    self._build(self.bridge)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._remove()

    def _build(self, bridge: Host) -> None:
        for host in (bridge, *self.hosts):
            _ip("netns", "add", str(host.netns))
            _in(host, "link", "set", "lo", "up")
        # No learning delay and no IGMP snooping: a plain wire, the kernel's fastest.
        _in(bridge, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        _in(bridge, "link", "set", "br0", "up")
        for host in self.hosts:
            self._plug(bridge, host)

    def _plug(self, bridge: Host, host: Host) -> None:
        port = str(host.port)
        peer = ("peer", "name", "eth0", "netns", str(host.netns))
        _in(bridge, "link", "add", port, "type", "veth", *peer)
        _in(bridge, "link", "set", port, "master", "br0", "up")
        _in(host, "address", "add", str(host.address), "dev", "eth0")
        _in(host, "link", "set", "eth0", "up")
        _in(host, "route", "add", "224.0.0.0/4", "dev", "eth0")

    def _remove(self) -> None:
        with _signals_held():
            for path in _namespaces():
                if path.name.startswith(self._tag):
                    _delete(path)
            shutil.rmtree(self.directory, ignore_errors=True)


def available_mode() -> Mode:
    """The best kind of laboratory this process can build (env IVC_LAB chooses one)."""
    wish = os.environ.get("IVC_LAB")
    if wish:
        return Mode(wish)
    if os.environ.get(_REEXEC_MARK):
        return Mode.USER
    if shutil.which("ip") and shutil.which("nsenter"):
        if os.geteuid() == 0 and _succeeds("unshare", "-n", "-m", "true"):
            return Mode.ROOT
        if _succeeds("unshare", "-U", "-r", "-n", "-m", "true"):
            return Mode.USER
    return Mode.LOOPBACK


def why_no_namespaces() -> str:
    """What keeps `available_mode` from namespaces, in the words of the tool that failed."""
    if os.environ.get("IVC_LAB"):
        return "IVC_LAB says so"
    flags = "-nm" if os.geteuid() == 0 else "-Urnm"
    try:
        done = subprocess.run(
            ["unshare", flags, "true"], capture_output=True, text=True, check=False
        )
    except OSError as error:
        return f"unshare: {error.strerror}"
    return done.stderr.strip() or "the tool ip or nsenter is missing"


def enter_user_namespace(argv: Sequence[str]) -> None:
    """Replace this process by `argv` inside a user namespace that can build a Lab.

    Returns at once when it already runs there. /run is a private tmpfs inside,
    so that `ip netns` can keep its names without touching the machine's.
    """
    if os.environ.get(_REEXEC_MARK):
        return
    os.environ[_REEXEC_MARK] = "1"
    script = 'mount -t tmpfs ivclab /run && mkdir -p /run/netns && exec "$@"'
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvp("unshare", ["unshare", "-U", "-r", "-n", "-m", "sh", "-c", script, "sh", *argv])


def remove_leftovers() -> list[str]:
    """Delete what laboratories left whose process is dead; returns the names."""
    dead = [path for path in (*_namespaces(), *_directories()) if not _owner_lives(path.name)]
    for path in dead:
        _delete(path)
    return [path.name for path in dead]


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that `with` blocks clean up."""

    def leave(number: int, _frame: types.FrameType | None) -> None:
        raise SystemExit(128 + number)

    saved = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in saved.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Hold signals back until the block is done; then they do what they would have done.

    Handlers, not the signal mask: a mask would be inherited by the programs
    started here. Python gives signals to the main thread only; others need nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    saved = {number: signal.signal(number, lambda n, _: held.append(n)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in saved.items():
            signal.signal(number, handler)
        for late in dict.fromkeys(held):
            signal.raise_signal(late)


def _start_time(pid: int) -> int | None:
    """Clock ticks since boot at which a process started; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


def _owner_lives(namespace: str) -> bool:
    parts = namespace.split("-")
    try:
        pid, started = int(parts[1]), int(parts[2])
    except (IndexError, ValueError):
        return True  # not of our making
    return _start_time(pid) == started


def _namespaces() -> list[Path]:
    if not _NETNS_DIR.is_dir():
        return []
    return [path for path in _NETNS_DIR.iterdir() if path.name.startswith(f"{PREFIX}-")]


def _directories() -> Iterator[Path]:
    return Path(tempfile.gettempdir()).glob(f"{PREFIX}-*-*")


def _delete(path: Path) -> None:
    if path.parent == _NETNS_DIR:
        command = ["ip", "netns", "delete", path.name]
        subprocess.run(command, capture_output=True, check=False, start_new_session=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _in(host: Host, *arguments: str) -> None:
    _ip("-n", str(host.netns), *arguments)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> str:
    # In a session of its own: Ctrl-C on a terminal reaches us alone.
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, start_new_session=True
    )
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
