# SPDX-License-Identifier: Apache-2.0
"""SOME/IP stacks of others, request and response between two hosts: over veth, and by IVC.

opensomeip (C++, from PyPI) is always there; vsomeip where VSOMEIP_PREFIX says it is installed, or
was built. What is shorter by IVC was the network's; all that is left is the stack's own, but for a
microsecond. Their threads go where the scheduler puts them.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.flows import Figures
from bench.pingpong import RING_SIZE, ROOT
from ivc.lab.control import (
    CLIENT_HOST,
    SERVER_HOST,
    JsonObject,
    running_controller,
    wrapper_environment,
    wrapper_library,
)
from ivc.lab.hosts import Host, Lab, LabError, stop
from ivc.lab.peers import common

_PATIENCE_SECONDS = 60.0
_WARM, _COUNT = 500, 2000
_SIZES = (64, 8192)
_NPDU_TIMES = (
    "debounce-time-request",
    "debounce-time-response",
    "max-retention-time-request",
    "max-retention-time-response",
)

Trial = Callable[[Lab, Mapping[str, str], int], float]
"""A stack's round trip of so many bytes of payload, p50 in microseconds."""


def measure_stacks(rounds: int) -> Figures:
    """Of every stack that is there. Raises LabError when a part does not run."""
    figures: Figures = {}
    members = {CLIENT_HOST: "10.77.0.1/24", SERVER_HOST: "10.77.0.2/24"}
    with (
        Lab(members) as lab,
        running_controller(lab, "direct", lab.directory, "eager", RING_SIZE),
    ):
        wrapped = wrapper_environment(wrapper_library(ROOT), lab.directory)
        for name, trial in _trials(lab):
            for size in _SIZES:
                both = [(trial(lab, {}, size), trial(lab, wrapped, size)) for _ in range(rounds)]
                native, rings = (statistics.median(times) for times in zip(*both, strict=True))
                title = f"{name} {size} B"
                figures[f"{title}: veth, p50 us"] = native
                figures[f"{title}: ivc, p50 us"] = rings
                figures[f"{title}: saved, %"] = (native - rings) / native * 100
    return figures


def _trials(lab: Lab) -> Iterator[tuple[str, Trial]]:
    yield "opensomeip", _opensomeip
    vsomeip = find_vsomeip()
    if vsomeip is not None:
        yield "vsomeip", _vsomeip(vsomeip, vsomeip.compile(lab.directory))


@contextlib.contextmanager
def _running(
    host: Host, command: list[str], env: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[str]]:
    with log.open("w") as stderr:
        process = host.popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
        )
    try:
        yield process
    finally:
        stop(process)


def _report(process: subprocess.Popen[str], log: Path) -> JsonObject:
    """The last line a program prints once its input has ended."""
    try:
        output, _ = process.communicate(timeout=_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        raise LabError(f"does not end: {process.args!r}: {log.read_text()}") from None
    if process.returncode != 0 or not output:
        raise LabError(f"fails (status {process.returncode}): {process.args!r}: {log.read_text()}")
    report = json.loads(output.splitlines()[-1])
    assert isinstance(report, dict)
    return report


# ---- opensomeip ---------------------------------------------------------------------------------


def _opensomeip(lab: Lab, env: Mapping[str, str], size: int) -> float:
    def peer(side: str, host: str) -> list[str]:
        module = f"ivc.lab.peers.opensomeip_{side}"
        numbers = ["--count", str(_WARM + _COUNT), "--payload", str(size)]
        own = str(lab[host].address.ip)
        return [sys.executable, "-m", module, "--address", own, *numbers]

    log = lab.directory / "opensomeip.log"
    server, client = peer("server", SERVER_HOST), peer("client", CLIENT_HOST)
    with (
        _running(lab[SERVER_HOST], server, env, log),
        _running(lab[CLIENT_HOST], client, env, log) as calling,
    ):
        report = _report(calling, log)
    if report["lost"]:
        raise LabError(f"opensomeip: {report['lost']} of {report['sent']} calls lost")
    return float(report["rtt_us"]["p50"])


# ---- vsomeip ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Vsomeip:
    """Where its libraries and its headers are."""

    libraries: Path
    headers: Path

    def compile(self, folder: Path) -> Path:
        """Our program on it."""
        program = folder / "vsomeip_pingpong"
        source = ROOT / "bench" / "vsomeip_pingpong.cpp"
        flags = ["-O2", "-std=c++17", f"-I{self.headers}", f"-L{self.libraries}", "-lvsomeip3"]
        command = ["g++", "-o", str(program), str(source), *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"{' '.join(command)}: {done.stderr[:2000]}")
        return program


def find_vsomeip() -> Vsomeip | None:
    """As VSOMEIP_PREFIX says. Raises LabError if it is not there; None if nobody wants it."""
    prefix = os.environ.get("VSOMEIP_PREFIX")
    if not prefix:
        return None
    # Installed, or built below its sources and not installed.
    places = [Path(prefix, "include"), Path(prefix).parent / "interface"]
    headers = next((one for one in places if (one / "vsomeip" / "vsomeip.hpp").is_file()), None)
    libraries = Path(prefix, "lib")
    if headers is None or not any(libraries.glob("libvsomeip3.so*")):
        looked = ", ".join(map(str, (*places, libraries)))
        raise LabError(
            f"VSOMEIP_PREFIX: found {prefix}, expected vsomeip/vsomeip.hpp and libvsomeip3.so in"
            f" {looked}: say where it is, or unset it"
        )
    return Vsomeip(libraries, headers)


def _vsomeip(vsomeip: Vsomeip, program: Path) -> Trial:
    def trial(lab: Lab, env: Mapping[str, str], size: int) -> float:
        # UDP up to 1,400 bytes of payload; vsomeip carries larger messages by TCP.
        protocol = "udp" if size <= 1400 else "tcp"
        calls = ["client", protocol, str(size), str(_WARM), str(_COUNT)]
        log = lab.directory / "vsomeip.err"
        server = [str(program), "server"], {**_environment(lab, SERVER_HOST, vsomeip), **env}, log
        client = [str(program), *calls], {**_environment(lab, CLIENT_HOST, vsomeip), **env}, log
        with _running(lab[SERVER_HOST], *server), _running(lab[CLIENT_HOST], *client) as calling:
            return float(_report(calling, log)["p50"])

    return trial


def _environment(lab: Lab, name: str, vsomeip: Vsomeip) -> dict[str, str]:
    file = lab.directory / f"vsomeip-{name}.json"
    file.write_text(json.dumps(_configuration(lab, name)))
    return {
        "VSOMEIP_CONFIGURATION": str(file),
        "VSOMEIP_APPLICATION_NAME": name,
        "VSOMEIP_BASE_PATH": str(lab.directory),
        "LD_LIBRARY_PATH": str(vsomeip.libraries),
    }


def _configuration(lab: Lab, name: str) -> JsonObject:
    """Without the 7 ms nPDU times put into either direction."""
    port = str(common.SERVER_PORT)
    service = {
        "service": "0x1234",
        "instance": "0x5678",
        "unreliable": port,
        "reliable": {"port": port, "enable-magic-cookies": "false"},
    }
    host = lab[name]
    return {
        "unicast": str(host.address.ip),
        "netmask": str(host.address.netmask),
        "network": f"ivcbench-{name}",
        "logging": {"level": "error", "console": "false", "dlt": "false"},
        "applications": [{"name": name, "id": "0x1277" if name == SERVER_HOST else "0x1343"}],
        "routing": name,
        "max-payload-size-reliable": "65536",
        "npdu-default-timings": dict.fromkeys(_NPDU_TIMES, "0"),
        "services": [service] if name == SERVER_HOST else [],
        "service-discovery": {
            "enable": "true",
            "multicast": common.SD_GROUP,
            "port": str(common.SD_PORT),
            "protocol": "udp",
            "initial_delay_min": "10",
            "initial_delay_max": "50",
            "repetitions_base_delay": "100",
            "repetitions_max": "3",
            "ttl": "5",
            "cyclic_offer_delay": "1000",
        },
    }
