# SPDX-License-Identifier: Apache-2.0
"""`ivc top` in a real terminal: what is on it, and how it is left."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte
import pytest
from controller_lab import Starter, with_flow

from ivc.cli import main

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:30509"
PATIENCE_S = 60.0


class Terminal:
    """A program in a terminal of so many columns and rows, and what it has drawn there."""

    def __init__(self, command: list[str], columns: int, rows: int, **environment: str) -> None:
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.written = b""
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.program = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm-256color", **environment},
        )

    def read(self) -> None:
        """What has come by now. The sequences below pyte would draw as text."""
        while select.select([self.master], [], [], 0.05)[0]:
            data = os.read(self.master, 65536)
            self.written += data
            for unknown in (b"\x1b[>1u", b"\x1b[<u", b"\x1b[=1;1u"):
                data = data.replace(unknown, b"")
            self.stream.feed(data)

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    def await_text(self, wanted: str) -> None:
        self.until(lambda: wanted in self.text, wanted)

    def until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < deadline, f"waited for {what}:\n{self.text}"
            self.read()

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def await_end(self) -> int:
        self.until(lambda: self.program.poll() is not None, "its end")
        self.read()
        return self.program.returncode

    def close(self) -> None:
        self.program.kill()
        self.program.wait()
        os.close(self.master)
        os.close(self.slave)


@contextmanager
def terminal(
    run_dir: Path,
    columns: int = 80,
    rows: int = 24,
    command: tuple[str, ...] = ("top", "--every", "0.1"),
    **environment: str,
) -> Iterator[Terminal]:
    """`ivc top` of a controller, looking often, or another command."""
    whole = [sys.executable, "-m", "ivc", *command, "--run-dir", str(run_dir)]
    one = Terminal(whole, columns, rows, **environment)
    try:
        yield one
    finally:
        one.close()


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (160, 50)])
def test_flows_and_their_keys_are_on_the_screen(start: Starter, columns: int, rows: int) -> None:
    lab = start()
    with_flow(lab, CLIENT, SERVER)
    with terminal(lab.run_dir, columns, rows) as seen:
        seen.await_text(CLIENT)
        seen.await_text("Quit")
        for text in ("controller", "sockets 2 of 2 on rings", "flows 1", SERVER, "direct", "Pause"):
            assert text in seen.text, seen.text
        seen.press(b"2")
        seen.await_text("reason")


@pytest.mark.parametrize("end", [b"q", b"\x03", signal.SIGTERM], ids=["q", "ctrl-c", "sigterm"])
def test_the_terminal_is_left_as_it_was(start: Starter, end: bytes | signal.Signals) -> None:
    lab = start()
    with terminal(lab.run_dir) as seen:
        seen.await_text("Quit")
        assert termios.tcgetattr(seen.slave) != seen.before
        seen.press(end) if isinstance(end, bytes) else seen.program.send_signal(end)
        assert seen.await_end() == 0
        assert termios.tcgetattr(seen.slave) == seen.before
        for on, off in ((b"\x1b[?1049h", b"\x1b[?1049l"), (b"\x1b[?25l", b"\x1b[?25h")):
            assert seen.written.rfind(on) < seen.written.rfind(off)  # screen, cursor
        assert not mouse_is_on(seen.written)
        assert "Traceback" not in seen.text


def mouse_is_on(written: bytes) -> bool:
    modes = (b"1000", b"1003", b"1006", b"1015", b"2004")
    return any(
        written.rfind(b"\x1b[?" + mode + b"h") > written.rfind(b"\x1b[?" + mode + b"l")
        for mode in modes
    )


def test_it_outlives_its_controller_and_says_so(start: Starter) -> None:
    lab = start()
    with terminal(lab.run_dir, 120, 30) as seen:
        seen.await_text("flows 0")
        (lab.run_dir / "status").rename(lab.run_dir / "gone")
        seen.await_text("no controller answers")
        (lab.run_dir / "gone").rename(lab.run_dir / "status")
        seen.until(lambda: "no controller answers" not in seen.text, "the controller's return")


def test_no_color_means_none(start: Starter) -> None:
    lab = start()
    with_flow(lab, CLIENT, SERVER)
    with terminal(lab.run_dir, NO_COLOR="1") as seen:
        seen.await_text(CLIENT)
        found = {
            colour
            for line in seen.screen.buffer.values()
            for char in line.values()
            for colour in (char.fg, char.bg)
        }
        assert all(is_grey(colour) for colour in found), found


def is_grey(colour: str) -> bool:
    """Six hexadecimal digits of which all pairs are the same, or black, white or the default."""
    if colour in {"default", "black", "white"}:
        return True
    return len({colour[at : at + 2] for at in (0, 2, 4)}) == 1


def test_without_a_terminal_it_says_what_to_use(
    start: Starter, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", "--run-dir", str(start().run_dir)]) == 2
    assert "ivc status --watch" in capsys.readouterr().err


def test_without_a_controller_no_screen_is_taken(tmp_path: Path) -> None:
    with terminal(tmp_path) as seen:
        assert seen.await_end() == 5
        assert "no controller answers" in seen.text.replace("\n", "")
        assert b"\x1b[?1049h" not in seen.written


def test_without_the_package_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ["textual", *(one for one in sys.modules if one.startswith("textual."))]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "ivc.observe.top", raising=False)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    assert main(["top"]) == 1
    assert "pip install 'ivc[top]'" in capsys.readouterr().err


def test_a_watched_status_stays_in_its_place_until_interrupted(start: Starter) -> None:
    lab = start()
    with_flow(lab, CLIENT, SERVER)
    with terminal(lab.run_dir, 160, 40, ("status", "--watch", "0.1")) as seen:
        seen.until(lambda: seen.written.count(b"controller pid") >= 3, "the third look")
        assert seen.screen.display[0].startswith("controller pid")
        assert seen.text.count("controller pid") == 1
        seen.press(b"\x03")
        assert seen.await_end() == 0
        assert "Traceback" not in seen.text


def test_only_this_command_imports_what_it_needs() -> None:
    code = (
        "from ivc.cli import parser; import sys; parser(); "
        "sys.exit('textual' in sys.modules or 'rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
