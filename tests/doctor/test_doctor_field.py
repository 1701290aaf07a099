# SPDX-License-Identifier: Apache-2.0
"""`ivc doctor` on real kernels: a sound system is left in peace, each fault is found."""

import json
import re
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

PLANT = Path(__file__).with_name("plant.sh")
FAULTS = {
    "no address": "no-address",
    "another address": "no-address",
    "another netmask": "other-netmask",
    "interface down": "link-down",
    "no carrier": "no-carrier",
    "no multicast": "no-multicast",
    "loopback down": "loopback-down",
    "no namespace": "no-host",
    "no multicast route": "no-multicast-route",
    "multicast elsewhere": "multicast-elsewhere",
    "no route": "no-route",
    "routed": "routed",
    "another way": "other-way",
    "port in no bridge": "no-wire",
    "two bridges": "no-wire",
    "bridge down": "no-wire",
    "isolated ports": "no-wire",
    "blocked port": "no-wire",
    "address twice": "address-twice",
    "hardware address twice": "mac-twice",
    "another MTU": "other-mtu",
    "discovery dropped": "netfilter",
    "group dropped": "netfilter",
    "service dropped": "netfilter",
    "policy drop": "netfilter",
    "bridge drops": "netfilter",
    "loses all": "traffic-control",
    "loses some": "traffic-control",
    "late": "traffic-control",
    "late at the port": "traffic-control",
    "damaged": "traffic-control",
    "black hole": "traffic-control",
    "led astray": "traffic-control",
    "all led astray": "traffic-control",
    "slow": "traffic-control",
    "dropped by traffic control": "traffic-control",
    "a port dropped by flower": "traffic-control",
    "a port dropped by u32": "traffic-control",
    "policed": "traffic-control",
}
"""Each as plant.sh plants it, and the code of what is found."""

NOT_IN_KERNEL = ("qdisc kind is unknown", "classifier not found", "load TC action module")


def test_a_sound_system_is_left_in_peace(field: Field) -> None:
    with field.controller():
        code, document = field.doctor("--", sys.executable)
    told = [one for one in document["findings"] if one["severity"] != "note"]
    assert (code, told) == (0, [])


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found(field: Field, fault: str) -> None:
    assert FAULTS[fault] not in field.codes()
    done = field.plant(PLANT, fault)
    if any(words in done.stderr for words in NOT_IN_KERNEL):
        pytest.skip(f"this kernel cannot: {done.stderr.splitlines()[0]}")
    assert (done.returncode, done.stderr) == (0, "")
    assert FAULTS[fault] in field.codes()


def test_faults_are_those_of_the_script() -> None:
    planted = re.findall(r'^"([^"]+)"\)', PLANT.read_text(), flags=re.MULTILINE)
    assert list(FAULTS) == planted and len(planted) >= 25


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
