# SPDX-License-Identifier: Apache-2.0
"""`ivc ethernet` on real kernels: idempotent, all or nothing, and gone without a trace."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest
from ethernet_field import ETHERNET, Field

from ivc.ethernet import kernel
from ivc.ethernet.difference import Rules
from ivc.ethernet.kernel import Kernel
from ivc.ethernet.rules import build_table

ROUTED = ETHERNET + 'address = "10.77.0.254/24"\n'

Spoil = Callable[[Field], object]


def test_second_apply_changes_nothing(dom0: Field) -> None:
    assert dom0.done("apply")
    there = dom0.snapshot()
    assert dom0.done("apply") == []
    assert dom0.snapshot() == there


def test_dry_run_tells_and_changes_nothing(dom0: Field) -> None:
    before = dom0.snapshot()
    told = dom0.ivc("apply", "--dry-run")
    assert told.returncode == 4 and "now: eth1 is a port of xenbr0" in told.stdout
    assert dom0.snapshot() == before
    dom0.done("apply")
    there = dom0.snapshot()
    assert dom0.ivc("apply", "--dry-run").returncode == 0
    told = dom0.ivc("remove", "--dry-run")
    assert told.returncode == 4 and "no longer: eth1 is a port of xenbr0" in told.stdout
    assert dom0.snapshot() == there


@pytest.mark.parametrize("up", [False, True], ids=["eth1-was-down", "eth1-was-up"])
def test_remove_leaves_no_trace(dom0: Field, up: bool) -> None:
    if up:
        dom0.ip("dom0", "link set eth1 up")
    before = dom0.snapshot()
    dom0.done("apply")
    assert dom0.snapshot() != before
    dom0.done("remove")
    assert dom0.snapshot() == before


def test_remove_leaves_no_trace_of_a_router(dom0: Field) -> None:
    dom0.addresses["tcu"], dom0.ethernet = "10.78.0.9", ROUTED
    before = dom0.snapshot()
    kinds = {change.get("kind") for change in dom0.done("apply")}
    assert {"forward", "address", "route"} <= kinds
    dom0.done("remove")
    assert dom0.snapshot() == before


def test_remove_of_nothing_changes_nothing(dom0: Field) -> None:
    before = dom0.snapshot()
    assert dom0.done("remove") == []
    assert dom0.snapshot() == before


def test_bridge_is_made_and_taken_away(bare: Field) -> None:
    before = bare.snapshot()
    bare.done("apply")
    bare.plug_guests()
    assert bare.talks("hmi", "adas")
    for vif in ("vif1.0", "vif2.0"):
        bare.ip("dom0", f"link set {vif} nomaster down")
    bare.done("remove")
    assert bare.snapshot() == before


def test_bridge_of_ours_stays_while_guests_are_on_it(bare: Field) -> None:
    before = bare.snapshot()
    bare.done("apply")
    bare.plug_guests()
    ran = bare.ivc("remove")
    assert ran.returncode == 0 and "xenbr0 stays while others use it" in ran.stdout
    assert bare.talks("hmi", "adas")
    for vif in ("vif1.0", "vif2.0"):
        bare.ip("dom0", f"link set {vif} nomaster down")
    bare.done("remove")
    assert bare.snapshot() == before


def test_what_was_right_before_stays(dom0: Field) -> None:
    """Somebody has put eth1 into the bridge by himself: it is not ours to take out."""
    dom0.ip("dom0", "link set eth1 master xenbr0 up")
    before = dom0.snapshot()
    dom0.done("apply")
    dom0.done("remove")
    assert dom0.snapshot() == before


def test_tables_of_others_are_untouched(dom0: Field) -> None:
    for family in ("inet", "bridge", "ip"):
        dom0.nft(f"add table {family} theirs")
        dom0.nft(f"add set {family} theirs s {{ type ipv4_addr; elements = {{ 10.9.9.9 }}; }}")
    dom0.nft("add table inet ivc")
    dom0.nft("add chain bridge theirs c { type filter hook forward priority 0 ; }")
    dom0.nft("add rule bridge theirs c ip saddr 10.9.9.9 counter drop")
    before = dom0.snapshot()["ruleset"]
    dom0.done("apply")
    between = dom0.snapshot()["ruleset"]["nftables"]
    ours = [thing for thing in between if _is_ours(thing)]
    assert len(ours) > 3
    assert [thing for thing in between if not _is_ours(thing)] == before["nftables"]
    dom0.done("remove")
    assert dom0.snapshot()["ruleset"] == before


def _is_ours(thing: dict[str, dict[str, str]]) -> bool:
    ((kind, what),) = thing.items()
    name = what.get("name") if kind == "table" else what.get("table")
    return (what.get("family"), name) == ("bridge", "ivc")


@pytest.mark.parametrize(
    ("spoil", "shown"),
    [
        (lambda f: f.nft("flush table bridge ivc"), "nftables: with 7 rules"),
        (lambda f: f.nft("flush ruleset"), "nftables: with 7 rules"),
        (lambda f: f.nft("add rule bridge ivc outside-in accept"), "nftables: with 7 rules"),
        (lambda f: f.ip("dom0", "link set eth1 nomaster"), "now: eth1 is a port of xenbr0"),
        (lambda f: f.ip("dom0", "link set eth1 down"), "now: eth1 is up"),
        (
            lambda f: f.ip("dom0", "link set xenbr0 type bridge mcast_snooping 1"),
            "now: xenbr0 sends multicast to all ports",
        ),
    ],
    ids=["rules-flushed", "all-flushed", "rule-added", "port-taken-out", "down", "snooping"],
)
def test_apply_mends_exactly_what_somebody_has_changed(
    dom0: Field, spoil: Spoil, shown: str
) -> None:
    before = dom0.snapshot()
    dom0.done("apply")
    there = dom0.snapshot()
    spoil(dom0)
    assert dom0.ivc("apply").stdout.splitlines()[0].startswith(shown)
    mended = dom0.snapshot()
    assert _without_handles(mended) == _without_handles(there)
    dom0.done("remove")
    assert dom0.snapshot() == before


def _without_handles(snapshot: dict[str, object]) -> str:
    parsed = json.loads(json.dumps(snapshot))
    for thing in parsed["ruleset"]["nftables"]:
        for what in thing.values():
            what.pop("handle", None)
    return json.dumps(parsed, sort_keys=True)


@pytest.mark.parametrize(
    "name", ['"', "\\", "Tür vorn", "\U0001f697" * 64, "a" * 64, "$x; # @inside"]
)
def test_any_name_of_a_node_comes_back_from_the_kernel(dom0: Field, name: str) -> None:
    table = build_table("eth1", [(name, IPv4Address("10.77.0.1"))], None)
    with dom0.inside("dom0"), Kernel() as opened:
        opened.take(Rules((), table))
        assert opened.read().rules == table


def test_many_at_once_wait_for_each_other(dom0: Field) -> None:
    before = dom0.snapshot()
    arguments = dom0.write_files()
    dom0.write_files = lambda: arguments  # type: ignore[method-assign]  # written once for all
    for verb in ("apply", "remove", "apply", "remove"):
        pids = [_forked(dom0, verb) for _ in range(4)]
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * 4
        assert dom0.done(verb) == []
    assert dom0.snapshot() == before


def _forked(dom0: Field, verb: str) -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(dom0.ivc(verb).returncode)
    return pid


def test_other_interface_takes_the_place_of_the_first(dom0: Field) -> None:
    dom0.ip("dom0", "link add eth2 type veth peer name wire2")
    before = dom0.snapshot()
    dom0.done("apply")
    dom0.ethernet = ETHERNET.replace("eth1", "eth2")
    dom0.done("apply")
    masters = {link["ifname"]: link.get("master") for link in dom0.snapshot()["links"]}
    assert (masters["eth1"], masters["eth2"]) == (None, "xenbr0")
    dom0.done("remove")
    assert dom0.snapshot() == before


def test_interface_that_was_renamed_is_still_ours(dom0: Field) -> None:
    dom0.done("apply")
    for words in ("eth1 down", "eth1 name lan0", "lan0 up"):
        dom0.ip("dom0", f"link set {words}")
    dom0.done("remove")
    links = {link["ifname"]: link for link in dom0.snapshot()["links"]}
    assert links["lan0"].get("master") is None and "altnames" not in links["lan0"]


# ---- all or nothing ---------------------------------------------------------


def test_refused_step_takes_all_others_back(dom0: Field) -> None:
    """The last step finds a route to tcu of somebody else's."""
    dom0.addresses["tcu"], dom0.ethernet = "10.78.0.9", ROUTED
    dom0.ip("dom0", "route add unreachable 10.78.0.9/32")
    before = dom0.snapshot()
    ran = dom0.ivc("apply")
    assert ran.returncode == 1
    assert "10.78.0.9/32 is reached by xenbr0: File exists; nothing was changed" in ran.stderr
    assert dom0.snapshot() == before


def test_killed_apply_can_be_removed(dom0: Field) -> None:
    """Ended by force before each thing it does in turn; what it did is found and taken away."""
    dom0.addresses["tcu"], dom0.ethernet = "10.78.0.9", ROUTED
    before = dom0.snapshot()
    number = 0
    while _dies_before(dom0, number):
        dom0.done("remove")
        assert dom0.snapshot() == before
        number += 1
    assert number > 12


def _dies_before(dom0: Field, number: int) -> bool:
    """Whether `apply` in a process of its own came to its n-th mark, fact or set of rules."""
    pid = os.fork()
    if pid == 0:
        left = [number]

        def dying(act: Callable[..., object]) -> Callable[..., object]:
            def acts(*arguments: object) -> object:
                left[0] -= 1
                return act(*arguments) if left[0] >= 0 else os._exit(9)

            return acts

        Kernel._mark = dying(Kernel._mark)  # type: ignore[method-assign]
        Kernel._hold = dying(Kernel._hold)  # type: ignore[method-assign]
        kernel.commands = dying(kernel.commands)  # type: ignore[assignment]
        os._exit(dom0.ivc("apply").returncode)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda f: f.ip("dom0", "link set eth1 name lan0"), "no-interface"),
        (lambda f: f.ip("dom0", "address add 192.168.1.5/24 dev eth1"), "in-use"),
        (
            lambda f: (
                f.ip("dom0", "link add br9 type bridge"),
                f.ip("dom0", "link set eth1 master br9"),
            ),
            "in-use",
        ),
        (
            lambda f: (
                f.ip("dom0", "link del xenbr0"),
                f.ip("dom0", "link add xenbr0 type veth peer name other"),
            ),
            "no-bridge",
        ),
        (
            lambda f: (
                f.ip("dom0", "link del eth1"),
                f.ip("dom0", "link add eth1 type bridge"),
            ),
            "no-port",
        ),
        (
            lambda f: (
                setattr(f, "ethernet", ROUTED),
                f.ip("dom0", "link add eth5 type veth peer name wire5"),
                f.ip("dom0", "address add 10.77.0.77/24 dev eth5"),
            ),
            "in-use",
        ),
    ],
    ids=["no-interface", "has-address", "in-other-bridge", "no-bridge", "is-bridge", "overlap"],
)
def test_mapping_that_does_not_fit_the_machine_changes_nothing(
    dom0: Field, spoil: Spoil, code: str
) -> None:
    spoil(dom0)
    before = dom0.snapshot()
    ran = dom0.ivc("apply")
    assert ran.returncode == 3 and f"[{code}]" in ran.stderr
    assert "mapping.toml: error: /ethernet/" in ran.stderr and "fix: " in ran.stderr
    assert dom0.snapshot() == before
    shown = dom0.ivc("show")
    assert shown.returncode == 0 and f"[{code}]" in shown.stderr


def test_address_dom0_has_outside_the_bridge_is_seen_before_anything_is_done(dom0: Field) -> None:
    dom0.ip("dom0", "address add 10.77.0.254/24 dev xenbr0")
    dom0.ethernet = ROUTED
    before = dom0.snapshot()
    dom0.done("apply")  # it is there already, and stays
    dom0.done("remove")
    assert dom0.snapshot() == before


def test_without_the_right_to_it_nothing_is_changed(dom0: Field) -> None:
    before = dom0.snapshot()
    command = [sys.executable, "-m", "ivc", "ethernet", "apply", *dom0.write_files()]
    unprivileged = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", *command]
    ran = subprocess.run(
        dom0.command("dom0", *unprivileged), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 77 and "run it as root (CAP_NET_ADMIN)" in ran.stderr
    assert dom0.snapshot() == before


def test_missing_library_is_named_with_its_package(dom0: Field) -> None:
    program = """
import ctypes, sys
def missing(name):
    raise OSError(name)
ctypes.CDLL = missing
from ivc.cli import main
sys.exit(main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", program, "ethernet", "apply", *dom0.write_files()]
    ran = subprocess.run(
        dom0.command("dom0", *command), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 69 and "apt-get install libnftables1" in ran.stderr


def test_mapping_without_a_way_outside_is_told(dom0: Field) -> None:
    dom0.ethernet = ""
    ran = dom0.ivc("apply")
    assert ran.returncode == 3 and "[no-ethernet]" in ran.stderr


def test_last_external_node_takes_everything_with_it(dom0: Field) -> None:
    before = dom0.snapshot()
    dom0.done("apply")
    files = dom0.write_files()
    mapping = dom0.folder / "mapping.toml"
    kept = [part for part in mapping.read_text().split("[") if not part.startswith("nodes.tcu")]
    mapping.write_text("[".join(kept))
    command = [sys.executable, "-m", "ivc", "ethernet", "apply", *files]
    dom0.run("dom0", *command)
    assert dom0.snapshot() == before


# ---- showing ----------------------------------------------------------------


def test_show_tells_what_is_whose_and_what_differs(dom0: Field) -> None:
    dom0.done("apply")
    dom0.ip("dom0", "link set eth1 down")
    shown = dom0.ivc("show")
    assert shown.returncode == 0
    lines = shown.stdout.splitlines()
    assert "there before   xenbr0 is a bridge" in lines
    assert "set by ivc     eth1 is a port of xenbr0" in lines
    assert "missing        eth1 is up" in lines
    assert "dropped 0      outside-in: node hmi" in lines
    assert "now: eth1 is up" in lines


def test_show_speaks_json(dom0: Field) -> None:
    dom0.done("apply")
    document = json.loads(dom0.ivc("show", "--json").stdout)
    assert (document["bridge"], document["interface"]) == ("xenbr0", "eth1")
    facts = {fact["text"]: (fact["holds"], fact["by_ivc"]) for fact in document["facts"]}
    assert facts["xenbr0 is a bridge"] == (True, False)
    assert facts["eth1 is a port of xenbr0"] == (True, True)
    assert document["rules"]["same"] and document["changes"] == []
    assert {entry["comment"] for entry in document["dropped"]} == {
        "node hmi",
        "node adas",
        "ARP of node hmi",
        "ARP of node adas",
        "nested VLAN tags",
        "both ends inside",
    }


def test_firewall_of_dom0_that_sees_the_bridge_is_told(dom0: Field) -> None:
    switch = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    for value, told in (("1", True), ("0", False)):
        dom0.run("dom0", "sh", "-c", f"echo {value} > {switch}")
        assert ("bridge-nf-call-iptables is 1" in dom0.ivc("show").stdout) == told
