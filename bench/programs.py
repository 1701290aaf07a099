# SPDX-License-Identifier: Apache-2.0
"""Servers and clients of others over TCP at 127.0.0.1, natively and on rings, side by side.

    .venv/bin/python -m bench.programs [--rounds N] [--trial NAME]... [--small]
                                       [--promote lazy|eager]

Every round runs each trial once on each side, in turn. Figures are medians over the rounds, more
is better; a ratio above 1 means that IVC is faster. A trial also has results that must not depend
on the side: what a program said, a checksum, what is in a database and in its log.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ivc.lab.control import running_loopback, wrapper_environment, wrapper_library
from ivc.lab.hosts import Host, Lab, LabError, ended_by_signals, stop

ROOT = Path(__file__).resolve().parent.parent
HOST = "self"
HERE = "127.0.0.1"
PORT = 8300
_PATIENCE_SECONDS = 120.0
_MEGA = 1 << 20


@dataclass(frozen=True, slots=True)
class Size:
    """How much of each: bytes of the large file, requests, seconds of load."""

    download: int = 1 << 30
    requests: int = 200_000
    seconds: int = 3


SMALL = Size(download=1 << 26, requests=5_000, seconds=1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to: `result` must be the same on both sides, `figures` are rates.

    `carried` is how many bytes went over the loopback interface meanwhile.
    """

    result: str
    figures: Mapping[str, float]
    carried: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trial runs: its host, a folder of its own, and the environment of all programs."""

    host: Host
    folder: Path
    env: Mapping[str, str]
    size: Size

    def run(self, *command: str) -> str:
        """A program's output. Raises LabError if it fails, or does not end."""
        process = self.host.popen(
            command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            output, errors = process.communicate(timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise LabError(f"{command[0]} does not end") from None
        finally:
            stop(process)
        if process.returncode != 0:
            raise LabError(f"{command[0]} fails (status {process.returncode}): {errors.strip()}")
        return output

    @contextlib.contextmanager
    def serving(self, command: Sequence[str], probe: Sequence[str]) -> Iterator[None]:
        """A server that answers `probe`."""
        with (self.folder / "server.log").open("w") as log:
            server = self.host.popen(command, env=self.env, stdout=log, stderr=log)
        try:
            end = time.monotonic() + 10.0
            while subprocess.run(
                self.host.command(probe), capture_output=True, check=False
            ).returncode:
                if server.poll() is not None or time.monotonic() > end:
                    raise LabError(f"{command[0]}: {(self.folder / 'server.log').read_text()}")
                time.sleep(0.02)
            yield
        finally:
            stop(server, patience=10.0)


@dataclass(frozen=True, slots=True)
class Trial:
    """One pair of programs. `needs` are the commands it takes, in Debian's packages of `from_`."""

    needs: tuple[str, ...]
    packages: str
    run: Callable[[Place], Outcome]

    @property
    def missing(self) -> str | None:
        """What to install; None if all is there."""
        gone = [name for name in self.needs if not _which(name)]
        return f"needs {', '.join(gone)}: apt-get install {self.packages}" if gone else None


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


# ---- redis --------------------------------------------------------------------------------------

_REDIS_TESTS = "set,get,lpush,lrange_100"
_REDIS_PIPED_TESTS = "set,get"


def _redis(place: Place) -> Outcome:
    """Every write into an append-only file, from which the database must come back."""
    log = place.folder / "appendonlydir"
    shutil.rmtree(log, ignore_errors=True)
    port = ["-p", str(PORT)]
    cli = ["redis-cli", *port]
    server = ["redis-server", "--port", str(PORT), "--bind", HERE, "--dir", str(place.folder)]
    server += ["--appendonly", "yes", "--save", "", "--enable-debug-command", "yes"]
    with place.serving(server, [*cli, "-e", "ping"]):
        load = ["redis-benchmark", *port, "-n", str(place.size.requests), "--csv"]
        rates = _redis_rates(place.run(*load, "-t", _REDIS_TESTS))
        piping = ["-t", _REDIS_PIPED_TESTS, "-P", "16"]
        piped = _redis_rates(place.run(*load, *piping, "-n", str(10 * place.size.requests)))
        before = place.run(*cli, "debug", "digest") + place.run(*cli, "dbsize")
    with place.serving(server, [*cli, "-e", "ping"]):
        after = place.run(*cli, "debug", "digest") + place.run(*cli, "dbsize")
    figures = rates | {f"{name} x16": rate for name, rate in piped.items()}
    return Outcome(before if before == after else f"{before} is not {after}", figures)


def _redis_rates(text: str) -> dict[str, float]:
    rows = re.findall(r'^"([^"]*)","([0-9.]+)"', text, re.MULTILINE)
    return {name.split(" (")[0]: float(rate) for name, rate in rows}


# ---- a web server -------------------------------------------------------------------------------

_PAGES = {"page": 1 << 10, "picture": 100 << 10}

_NGINX = """
user root root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
daemon off;
events {{ worker_connections 512; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    server {{ listen {here}:{port}; root {folder}/www; }}
}}
"""


@contextlib.contextmanager
def _nginx(place: Place, files: Mapping[str, int]) -> Iterator[str]:
    """A web server with these files; their address."""
    www = place.folder / "www"
    www.mkdir(exist_ok=True)
    for name, size in files.items():
        _fill(www / name, size)
    settings = place.folder / "nginx.conf"
    settings.write_text(_NGINX.format(folder=place.folder, here=HERE, port=PORT))
    address = f"http://{HERE}:{PORT}"
    probe = ["curl", "-s", "-o", "/dev/null", f"{address}/{next(iter(files))}", "-r", "0-0"]
    command = [_which("nginx") or "nginx", "-c", str(settings), "-p", str(place.folder)]
    with place.serving(command, probe):
        yield address


def _fill(path: Path, size: int) -> None:
    """A file of bytes that differ everywhere, made once."""
    if path.exists() and path.stat().st_size == size:
        return
    with path.open("wb") as file:
        for at in range(0, size, _MEGA):
            file.write(hashlib.shake_128(b"%d" % at).digest(min(_MEGA, size - at)))


def _wrk(place: Place) -> Outcome:
    said: list[str] = []
    figures = {}
    with _nginx(place, _PAGES) as address:
        for name in _PAGES:
            load = ["-t", "1", "-c", "32", "-d", f"{place.size.seconds}s"]
            text = place.run("wrk", *load, f"{address}/{name}")
            said += re.findall(r"^ *((?:Socket errors|Non-2xx).*)$", text, re.MULTILINE)
            rate = re.search(r"^Requests/sec: *([0-9.]+)", text, re.MULTILINE)
            figures[f"{name}s a second"] = float(rate[1]) if rate else 0.0
            said.append(hashlib.sha256(_download(place, f"{address}/{name}")).hexdigest())
    return Outcome("\n".join(said), figures)


def _download(place: Place, address: str) -> bytes:
    command = place.host.command(["curl", "-sf", address], place.env)
    return subprocess.run(command, capture_output=True, check=False, timeout=10).stdout


# ---- a large file -------------------------------------------------------------------------------


def _curl(place: Place) -> Outcome:
    with _nginx(place, {"large": place.size.download}) as address:
        begin = time.monotonic()
        shell = f"set -o pipefail; curl -sf {address}/large | sha256sum"
        checksum = place.run("bash", "-c", shell)
        took = time.monotonic() - begin
        said = place.run(
            "curl", "-sf", "-o", "/dev/null", "-w", "%{size_download} %{speed_download}",
            f"{address}/large",
        )  # fmt: skip
    size, speed = said.split()
    figures = {
        "MiB/s into sha256sum": place.size.download / took / _MEGA,
        "MiB/s into nothing": float(speed) / _MEGA,
    }
    return Outcome(f"{checksum.split()[0]} {size}", figures)


# ---- all of them --------------------------------------------------------------------------------

TRIALS: Mapping[str, Trial] = {
    "redis": Trial(
        ("redis-server", "redis-cli", "redis-benchmark"), "redis-server redis-tools", _redis
    ),
    "wrk": Trial(("nginx", "wrk", "curl"), "nginx-light wrk curl", _wrk),
    "curl": Trial(("nginx", "curl", "sha256sum", "bash"), "nginx-light curl", _curl),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of one trial, medians over the rounds; `ratio` is the median of theirs."""

    trial: str
    figure: str
    native: float
    rings: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Report:
    """`results`: all that the runs of a trial came to; one if nothing differs. `carried`: what
    the loopback interface carried on rings, as a share of what it did natively.
    """

    comparisons: tuple[Comparison, ...]
    results: Mapping[str, frozenset[str]]
    carried: Mapping[str, float]


def measure(trials: Sequence[str], rounds: int, size: Size, promote: str = "lazy") -> Report:
    """Run everything. Raises LabError when a part does not run."""
    native: dict[str, list[Outcome]] = {name: [] for name in trials}
    rings: dict[str, list[Outcome]] = {name: [] for name in trials}
    with (
        Lab({HOST: "10.77.0.1/24"}) as lab,
        running_loopback(lab, HOST, lab.directory, promote),
    ):
        wrapped = wrapper_environment(wrapper_library(ROOT), lab.directory)
        for _ in range(rounds):
            for name in trials:
                native[name].append(run_once(lab, name, {}, size))
                rings[name].append(run_once(lab, name, wrapped, size))
    return Report(
        tuple(one for name in trials for one in _compare(name, native[name], rings[name])),
        {name: frozenset(one.result for one in native[name] + rings[name]) for name in trials},
        {name: _carried(rings[name]) / _carried(native[name]) for name in trials},
    )


def run_once(lab: Lab, name: str, env: Mapping[str, str], size: Size) -> Outcome:
    """One trial on one side."""
    folder = lab.directory / name
    folder.mkdir(exist_ok=True)
    before = _interface_bytes(lab[HOST])
    outcome = TRIALS[name].run(Place(lab[HOST], folder, env, size))
    return replace(outcome, carried=_interface_bytes(lab[HOST]) - before)


def _interface_bytes(host: Host) -> int:
    text = host.run("cat", "/proc/self/net/dev")
    line = re.search(r"^ *lo:(.*)$", text, re.MULTILINE)
    return int(line[1].split()[0]) if line else 0


def _carried(outcomes: Sequence[Outcome]) -> int:
    return sum(one.carried for one in outcomes) or 1


def _compare(
    trial: str, native: Sequence[Outcome], rings: Sequence[Outcome]
) -> Iterator[Comparison]:
    for figure in native[0].figures:
        ours = [one.figures[figure] for one in rings]
        theirs = [one.figures[figure] for one in native]
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        medians = [statistics.median(each) for each in (theirs, ours, ratios)]
        yield Comparison(trial, figure, *medians)


def main() -> int:
    """Measure and print a table; 0 if results are the same on both sides."""
    parser = argparse.ArgumentParser(prog="programs.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trial", action="append", choices=list(TRIALS))
    parser.add_argument("--small", action="store_true", help="less of everything")
    parser.add_argument("--promote", choices=("lazy", "eager"), default="lazy")
    options = parser.parse_args()
    with ended_by_signals():
        names = options.trial or list(TRIALS)
        size = SMALL if options.small else Size()
        report = measure(names, options.rounds, size, options.promote)
    print(f"{'trial':8}{'figure':24}{'native':>12}{'rings':>12}{'ratio':>8}")
    for one in report.comparisons:
        figures = f"{one.native:12.0f}{one.rings:12.0f}{one.ratio:8.2f}"
        print(f"{one.trial:8}{one.figure:24}{figures}")
    for name, share in report.carried.items():
        print(f"{name}: {share:.3f} of the bytes by the kernel")
    different = [name for name, results in report.results.items() if len(results) != 1]
    for name in different:
        print(f"{name} differs: {sorted(report.results[name])}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
