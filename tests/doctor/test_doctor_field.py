# SPDX-License-Identifier: Apache-2.0
"""`ivc doctor` on real kernels: a sound system is left in peace, each fault is found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from doctor_field import EXAMPLES, Field, run_doctor

from ivc import __version__
from ivc.cli import main
from ivc.doctor.gather.controller import gather_controller
from ivc.shm.layout import MATCH_ABI, RING_ABI_MAJOR

NFT = "ip netns exec $hmi nft -f - <<'!'\n"
CHAIN = "table inet f {{ chain c {{ type filter hook {} priority 0; {}\n}}\n}}\n!"

FAULTS = {
    "no address": ("ip -n $hmi address flush dev eth0", "no-address"),
    "another address": (
        "ip -n $hmi address flush dev eth0; ip -n $hmi address add 10.77.0.7/24 dev eth0",
        "no-address",
    ),
    "another netmask": (
        "ip -n $hmi address flush dev eth0; ip -n $hmi address add 10.77.0.1/16 dev eth0;"
        "ip -n $hmi route add 224.0.0.0/4 dev eth0",
        "other-netmask",
    ),
    "interface down": ("ip -n $hmi link set eth0 down", "link-down"),
    "no carrier": ("ip -n $dom0 link set p1 down", "no-carrier"),
    "no multicast": ("ip -n $hmi link set eth0 multicast off", "no-multicast"),
    "loopback down": ("ip -n $hmi link set lo down", "loopback-down"),
    "no namespace": ("ip netns delete $hmi", "no-host"),
    "no multicast route": ("ip -n $hmi route del 224.0.0.0/4", "no-multicast-route"),
    "multicast elsewhere": (
        "ip -n $hmi link add d0 type bridge; ip -n $hmi link set d0 up;"
        "ip -n $hmi route add 224.224.224.0/24 dev d0",
        "multicast-elsewhere",
    ),
    "no route": ("ip -n $hmi route add unreachable 10.77.0.2", "no-route"),
    "routed": ("ip -n $hmi route add 10.77.0.2 via 10.77.0.9", "routed"),
    "another way": (
        "ip -n $hmi link add d0 type bridge; ip -n $hmi link set d0 up;"
        "ip -n $hmi route add 10.77.0.2 dev d0",
        "other-way",
    ),
    "port in no bridge": ("ip -n $dom0 link set p1 nomaster", "no-wire"),
    "two bridges": (
        "ip -n $dom0 link add br1 type bridge; ip -n $dom0 link set br1 up;"
        "ip -n $dom0 link set p1 master br1",
        "no-wire",
    ),
    "bridge down": ("ip -n $dom0 link set br0 down", "no-wire"),
    "address twice": ("ip -n $dom0 address add 10.77.0.1/24 dev br0", "address-twice"),
    "discovery dropped": (NFT + CHAIN.format("input", "udp dport 30490 drop"), "netfilter"),
    "group dropped": (NFT + CHAIN.format("output", "ip daddr 224.0.0.0/4 drop"), "netfilter"),
    "service dropped": (
        NFT + CHAIN.format("input", "udp dport { 1, 30500-30520 } reject"),
        "netfilter",
    ),
    "policy drop": (NFT + CHAIN.format("input", "policy drop;"), "netfilter"),
    "bridge drops": (
        "ip netns exec $dom0 nft 'add table bridge f; add chain bridge f c { type filter hook "
        "forward priority 0; policy drop; }'",
        "netfilter",
    ),
}


def test_a_sound_system_is_left_in_peace(field: Field) -> None:
    with field.controller():
        code, document = field.doctor("--", sys.executable)
    told = [one for one in document["findings"] if one["severity"] != "note"]
    assert (code, told) == (0, [])


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found(field: Field, fault: str) -> None:
    script, code = FAULTS[fault]
    field.do(script)
    assert code in field.codes()


def test_a_firewall_that_lets_nodes_pass_is_left_in_peace(field: Field) -> None:
    rules = (
        "policy drop; ct state invalid drop; ct state established,related accept; iif lo accept;"
        "ip saddr 10.77.0.0/24 udp dport { 30490, 30500-30520 } accept"
    )
    field.do(NFT + CHAIN.format("input", rules))
    assert "netfilter" not in field.codes()


def test_other_nodes_are_left_out(field: Field) -> None:
    field.do("ip -n $hmi link set lo down")
    assert "loopback-down" in field.codes("--node", "hmi")
    assert "loopback-down" not in field.codes("--node", "adas")


def test_silent_controller_is_an_error(field: Field) -> None:
    assert field.doctor()[0] == 1
    assert "no-controller" in field.codes()


def test_controller_of_another_plan_is_told(field: Field) -> None:
    with field.controller():
        elsewhere = Field(field.folder)
        assert "other-plan" in elsewhere.codes()


def test_controller_says_its_version_and_abi(field: Field) -> None:
    with field.controller():
        told = gather_controller(field.folder / "run")
    assert (told.version, told.ring_abi, told.match_abi) == (__version__, RING_ABI_MAJOR, MATCH_ABI)


def test_unknown_node_is_wrong_usage(field: Field) -> None:
    assert main(["doctor", *field.files(), "--node", "tcu"]) == 2
    assert main(["doctor", "--node", "hmi"]) == 2


def test_bad_files_are_findings_and_exit_3(
    field: Field, capsys: pytest.CaptureFixture[str]
) -> None:
    files = field.files()
    bad = Path(files[0])
    bad.write_text(bad.read_text().replace("30510", "0x772E"))
    assert main(["doctor", *files, "--json"]) == 3
    found = json.loads(capsys.readouterr().out)["findings"]
    assert "hex-port" in {one["code"] for one in found}


def test_descriptors_are_counted(field: Field) -> None:
    files = " ".join(field.files())
    command = f"ulimit -n 100; exec {sys.executable} -m ivc doctor {files}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert "[few-descriptors]" in done.stdout


DIRECT = """
for n in $hmi $adas; do ip -n $n link del eth0; done
ip -n $hmi link add eth0 type veth peer name eth0 netns $adas
i=0
for n in $hmi $adas; do
    i=$((i + 1))
    ip -n $n address add 10.77.0.$i/24 dev eth0
    ip -n $n link set eth0 up
    ip -n $n route add 224.0.0.0/4 dev eth0
done
"""


def test_two_hosts_on_one_wire_need_no_bridge(field: Field) -> None:
    field.do(DIRECT)
    assert field.codes() <= {"no-controller"}


def test_two_nodes_of_one_host_need_no_wire(tmp_path: Path) -> None:
    files = [str(tmp_path / f"{name}.json") for name in ("a", "b")]
    for number, file in enumerate(files, start=1):
        text = (EXAMPLES / "hmi.json").read_text()
        text = text.replace("10.77.0.1", f"127.0.0.{number}").replace("0x1235", f"0x123{number}")
        Path(file).write_text(text.replace("255.255.255.0", "255.0.0.0"))
    mapping = tmp_path / "mapping.toml"
    mapping.write_text('version = 1\n[nodes.a]\nhost = "local"\n[nodes.b]\nhost = "local"\n')
    _, document = run_doctor([*files, "--mapping", str(mapping), "--run-dir", str(tmp_path)])
    told = {one["code"] for one in document["findings"] if one["severity"] != "note"}
    assert told <= {"no-controller"}
