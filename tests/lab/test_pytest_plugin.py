# SPDX-License-Identifier: Apache-2.0
"""The fixture `ivc_lab`, as a user's tests have it: in a pytest of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ivc.lab.hosts import PREFIX

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
FILES = 'config=["hmi.json", "adas.json"], mapping="mapping.toml"'
BEGIN = f"""
import os, sys, time
import pytest
SERVER = [sys.executable, "-m", "ivc.lab.peers.pysomeip_server", "--address", "10.77.0.2"]
pytestmark = pytest.mark.ivc({FILES}, ways=["direct"])
"""


def run(folder: Path, test: str, begin: str = BEGIN) -> subprocess.CompletedProcess[str]:
    """pytest on a file beside the examples' configuration."""
    (folder / "test_it.py").write_text(begin + test)
    return subprocess.run(
        command(folder), capture_output=True, text=True, check=False, env=environment()
    )


def command(folder: Path) -> list[str]:
    for name in ("hmi.json", "adas.json", "mapping.toml"):
        (folder / name).write_bytes((EXAMPLES / name).read_bytes())
    options = ["-c", os.devnull, "-p", "no:cacheprovider", "-ra", "--rootdir", str(folder)]
    return [sys.executable, "-m", "pytest", *options, str(folder / "test_it.py")]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def left(pid: int | None = None) -> list[str]:
    """Names of namespaces of a process's laboratories."""
    return [path.name for path in Path("/run/netns").glob(f"{PREFIX}-{pid or '*'}-*")]


def test_the_example_passes_each_way() -> None:
    options = ["-c", os.devnull, "-p", "no:cacheprovider", "-v", "--rootdir", str(EXAMPLES)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(EXAMPLES / "test_nodes.py")],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    passed = re.findall(r"\[(\w+)\] PASSED", done.stdout)
    assert (done.returncode, passed) == (0, ["native", "direct", "relay"]), done.stdout


def test_docs_have_the_example_as_it_is() -> None:
    shown = (ROOT / "docs" / "testing.md").read_text()
    body = (EXAMPLES / "test_nodes.py").read_text().split('"""\n', 1)[1].strip()
    assert body in shown


def test_a_service_nobody_offers_fails_the_test_and_says_so(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
def test_it(ivc_lab):
    ivc_lab.start("adas", ["echo", "I do not serve"])
    ivc_lab.wait_for_service(0x1234, timeout=1)
""",
    )
    assert done.returncode == 1
    assert "service 0x1234 not there within 1 s: no offer of it" in done.stdout
    assert "adas-0 has ended with status 0, and has said: I do not serve" in done.stdout


def test_an_offer_of_an_endpoint_nobody_is_bound_to_is_no_service(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
from ipaddress import IPv4Address
import socket
from ivc import someip
from ivc.netns import inside

def test_it(ivc_lab):
    entry = someip.ServiceEntry(someip.EntryType.OFFER, 0x1234, 1, 1, 3, 0, someip.Run(0, 1))
    where = someip.EndpointOption(IPv4Address("10.77.0.2"), someip.Protocol.UDP, 30509)
    payload = someip.SdMessage((entry,), (where,)).build()
    header = someip.Header(0xFFFF, 0x8100, message_type=someip.MessageType.NOTIFICATION)
    with inside(ivc_lab.host("adas").netns):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.sendto(someip.Message(header, payload).build(), ("224.224.224.245", 30490))
    ivc_lab.wait_for_service(0x1234, timeout=1)
""",
    )
    assert done.returncode == 1
    assert "10.77.0.2 offers udp 10.77.0.2:30509, where nobody is bound" in done.stdout


def test_what_did_not_go_by_ring_is_told(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
def test_it(ivc_lab):
    ivc_lab.start("adas", SERVER, env={"LD_PRELOAD": ""})
    ivc_lab.wait_for_service(0x1234)
    ivc_lab.wait_for_way("adas", timeout=1)
""",
    )
    assert done.returncode == 1
    assert "0 messages of node adas went direct within 1 s, expected 1" in done.stdout


def test_a_withdrawn_offer_is_heard(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
def test_it(ivc_lab):
    server = ivc_lab.start("adas", SERVER)
    ivc_lab.wait_for_service(0x1234, 0x5678)
    server.end_input()
    assert server.wait() == 0
    assert ivc_lab.offers()[-1].withdrawn
""",
    )
    assert done.returncode == 0, done.stdout


def test_domains_of_xen_become_hosts_and_nodes_outside_have_no_wrapper(tmp_path: Path) -> None:
    mapping = "version = 1\\n[nodes.hmi]\\nvm = 'a'\\npages = 512\\n"
    mapping += "[nodes.adas]\\nexternal = true\\n"
    done = run(
        tmp_path,
        f"""
import pathlib
pathlib.Path(__file__).with_name("mapping.toml").write_text("{mapping}")

def test_it(ivc_lab):
    shown = [ivc_lab.start(name, ["printenv", "LD_PRELOAD"]) for name in ("hmi", "adas")]
    assert [one.wait() for one in shown] == [0, 1]
    nodes = {{one["name"]: one["domain"] for one in ivc_lab.status()["nodes"]}}
    assert nodes["hmi"] == f"netns:{{ivc_lab.host('hmi').netns}}"
    assert nodes["adas"] == "external"
""",
    )
    assert done.returncode == 0, done.stdout


def test_wrong_files_are_told_as_everywhere(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
import pathlib
pathlib.Path(__file__).with_name("mapping.toml").write_text("version = 1\\n[nodes.hmi]\\n")

def test_it(ivc_lab):
    pass
""",
    )
    assert done.returncode == 1 and "mapping.toml:2: error:" in done.stdout


def test_a_test_without_files_is_told_what_to_write(tmp_path: Path) -> None:
    done = run(tmp_path, "def test_it(ivc_lab): pass\n", begin="")
    assert done.returncode == 1
    assert "found no @pytest.mark.ivc with files" in done.stdout


ENDLESS = """
def test_it(ivc_lab):
    ivc_lab.start("hmi", ["sleep", "1000"])
    print("begun", os.getpid(), file=sys.__stderr__, flush=True)
    {}
"""


def test_a_failed_test_leaves_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, ENDLESS.format("assert False"))
    assert done.returncode == 1
    pid = re.search(r"begun (\d+)", done.stderr + done.stdout)
    assert pid is not None and left(int(pid[1])) == []


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(BEGIN + ENDLESS.format("time.sleep(100)"))
    process = subprocess.Popen(
        [*command(tmp_path), "-s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stderr is not None
    assert process.stderr.readline() == f"begun {process.pid}\n"
    assert len(left(process.pid)) == 4
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert (process.returncode, left(process.pid)) == (pytest.ExitCode.INTERRUPTED, [])
