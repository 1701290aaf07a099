# SPDX-License-Identifier: Apache-2.0
"""Judging facts: pure, so each fault alone gives its finding, and nothing else."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path

import pytest
from doctor_case import (
    GROUP,
    HERE,
    LIBRARY,
    changed,
    node,
    sound,
    told,
    with_host,
    with_link,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ivc.doctor import examine
from ivc.doctor.case import Case
from ivc.doctor.elf import Elf
from ivc.doctor.examine import judge
from ivc.doctor.facts import Device, Host, KnownNode, Link, Machine, Route, Xen
from ivc.network.limits import Share
from ivc.network.model import XenDomain

Spoil = Callable[[Case], Case]


def _device(there: bool) -> tuple[Device, ...]:
    return (Device("/dev/xen/gntdev", there, "No such file or directory"),)


FAULTS: dict[str, tuple[str, str, Spoil]] = {
    "silent controller": (
        "error",
        "no-controller",
        lambda c: changed(c, controller={"problem": "gone"}),
    ),
    "controller of another user": (
        "error",
        "not-permitted",
        lambda c: changed(c, controller={"problem": "no", "is_forbidden": True}),
    ),
    "old controller": (
        "warning",
        "other-version",
        lambda c: changed(c, controller={"version": None}),
    ),
    "controller of another ABI": (
        "error",
        "abi-mismatch",
        lambda c: changed(c, controller={"ring_abi": 2}),
    ),
    "match table of another ABI": (
        "error",
        "abi-mismatch",
        lambda c: changed(c, controller={"match_abi": 2}),
    ),
    "no match table": ("error", "abi-mismatch", lambda c: changed(c, controller={"match_abi": -1})),
    "controller that knows another place": (
        "warning",
        "other-plan",
        lambda c: changed(
            c,
            controller={
                "nodes": (
                    KnownNode("n1", "10.77.0.9", "netns:ns-n1"),
                    *c.facts.controller.nodes[1:],  # type: ignore[union-attr]
                )
            },
        ),
    ),
    "all by the network": (
        "note",
        "network-path",
        lambda c: changed(c, controller={"path": "network"}),
    ),
    "no library": (
        "error",
        "no-library",
        lambda c: changed(c, library={"path": "", "problem": "none"}),
    ),
    "library that is no ELF file": (
        "error",
        "no-library",
        lambda c: changed(c, library={"elf": None}),
    ),
    "library the loader refuses": (
        "error",
        "not-preloaded",
        lambda c: changed(c, library={"abi": None, "problem": "cannot be preloaded"}),
    ),
    "library not in the loader's path": (
        "note",
        "not-installed",
        lambda c: changed(c, library={"by_name": False}),
    ),
    "few descriptors": (
        "warning",
        "few-descriptors",
        lambda c: changed(c, process={"descriptors": 64}),
    ),
    "little memory": ("warning", "little-memory", lambda c: changed(c, machine={"memory": 1})),
    "filter that blocks": (
        "error",
        "seccomp",
        lambda c: changed(c, process={"seccomp": True, "blocked": ("eventfd2",)}),
    ),
    "filter that lets pass": ("note", "seccomp", lambda c: changed(c, process={"seccomp": True})),
    "forced spinning": (
        "warning",
        "spin-cores",
        lambda c: changed(c, process={"spin": "1000", "cpus": 1}),
    ),
    "no spinning": ("note", "no-spin", lambda c: changed(c, process={"spin": "0"})),
    "bad spinning": ("warning", "bad-spin", lambda c: changed(c, process={"spin": "fast"})),
    "one processor": ("note", "no-spin", lambda c: changed(c, machine={"cpus": 1})),
    "missing program": ("error", "no-program", lambda c: changed(c, program={"problem": "no"})),
    "static program": (
        "error",
        "static-program",
        lambda c: changed(c, program={"elf": Elf(62, 64)}),
    ),
    "Go program": (
        "error",
        "go-program",
        lambda c: changed(c, program={"elf": replace(HERE, is_go=True)}),
    ),
    "program for musl": (
        "error",
        "other-libc",
        lambda c: changed(c, program={"elf": Elf(62, 64, "/lib/ld-musl-x86_64.so.1")}),
    ),
    "program of another machine": (
        "error",
        "other-architecture",
        lambda c: changed(c, program={"elf": Elf(183, 64, "/lib/ld-linux-aarch64.so.1")}),
    ),
    "set-user-ID program": (
        "error",
        "privileged-program",
        lambda c: changed(c, program={"set_uid": 0}, process={"uid": 1000}),
    ),
    "set-user-ID program, by its owner": (
        "note",
        "privileged-program",
        lambda c: changed(c, program={"set_uid": 0}),
    ),
    "set-group-ID program": (
        "error",
        "privileged-program",
        lambda c: changed(c, program={"set_gid": 0}, process={"uid": 1000}),
    ),
    "program with capabilities": (
        "error",
        "privileged-program",
        lambda c: changed(c, program={"capabilities": True}, process={"uid": 1000}),
    ),
    "missing namespace": (
        "error",
        "no-host",
        lambda c: with_host(c, 0, id=0, problem="none", links=(), routes={}),
    ),
    "forbidden namespace": (
        "error",
        "not-permitted",
        lambda c: with_host(c, 0, problem="Operation not permitted", links=(), routes={}),
    ),
    "interface of another name": (
        "error",
        "other-device",
        lambda c: replace(
            c,
            network=replace(
                c.network,  # type: ignore[type-var]
                nodes=(replace(node(1), device="eth1"), node(2)),
            ),
        ),
    ),
    "unknown rules": (
        "note",
        "netfilter-unknown",
        lambda c: with_host(c, 0, rules=None, rules_problem="no libnftables"),
    ),
    "port that is down": ("error", "no-wire", lambda c: with_link(c, 2, 1, up=False)),
    "port of no bridge": ("error", "no-wire", lambda c: with_link(c, 2, 1, master=0)),
    "bridge with a node's address": (
        "error",
        "address-twice",
        lambda c: with_link(c, 2, 0, addresses=(IPv4Interface("10.77.0.1/24"),)),
    ),
    "group by no route": (
        "error",
        "no-multicast-route",
        lambda c: with_host(
            c, 0, routes={**c.facts.hosts[0].routes, GROUP.address: Route(problem="no")}
        ),
    ),
}


@given(count=st.integers(1, 12))
@settings(max_examples=12)
def test_sound_case_of_any_size_has_no_finding(count: int) -> None:
    assert told(sound(count)) == set()


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_alone_gives_its_finding_alone(fault: str) -> None:
    level, code, spoil = FAULTS[fault]
    assert told(spoil(sound())) == {(level, code)}


@pytest.mark.parametrize("fault", FAULTS)
def test_finding_says_where_what_and_how_to_mend_it(fault: str) -> None:
    for one in judge(FAULTS[fault][2](sound())):
        assert all((one.code, one.file, one.found, one.expected, one.fix))


def test_errors_come_first() -> None:
    case = changed(sound(), library={"by_name": False}, controller={"problem": "gone"})
    assert [one.severity for one in judge(case)] == ["error", "note"]


def test_nodes_on_wires_that_end_out_of_sight_are_left_in_peace() -> None:
    assert told(with_link(sound(), 2, 1, kind="", peer=None)) == set()


def test_nodes_whose_other_end_is_out_of_sight_are_left_in_peace() -> None:
    assert told(with_link(sound(), 0, 1, peer=None)) == set()


def test_more_nodes_need_more_descriptors() -> None:
    few = {"descriptors": 220}
    assert told(changed(sound(2), process=few)) == set()
    assert told(changed(sound(12), process=few)) == {("warning", "few-descriptors")}


def test_equal_addresses_on_other_wires_are_left_in_peace() -> None:
    case = sound()
    links = (Link(2, "eth0", "veth", addresses=(IPv4Interface("10.77.0.1/24"),), peer=(1, 99)),)
    hosts = (*case.facts.hosts, Host("other", 300, "", links))
    assert told(replace(case, facts=replace(case.facts, hosts=hosts))) == set()


def test_guests_need_xen() -> None:
    case = changed(sound(domain=XenDomain("a")), machine={"xen": Xen.NONE})
    assert ("error", "no-xen") in told(case)


@pytest.mark.parametrize(("there", "code"), [(False, "no-device"), (True, "device-forbidden")])
def test_guests_need_devices(there: bool, code: str) -> None:
    case = sound(domain=XenDomain("a"))
    case = changed(case, machine={"xen": Xen.DOM0, "devices": _device(there)})
    assert told(case) == {("error", code)}


def test_pages_of_xen_are_of_4_kib() -> None:
    case = changed(sound(domain=XenDomain("a")), machine={"xen": Xen.DOM0, "page": 65536})
    assert told(case) == {("error", "page-size")}


def test_a_host_on_xen_without_guests_needs_no_device() -> None:
    assert told(changed(sound(), machine={"xen": Xen.DOM0, "devices": _device(False)})) == set()


def _guest(**machine: object) -> Case:
    """n1's guest, asked for; it knows its own interfaces only."""
    case = sound(domain=XenDomain("a"))
    own = replace(sound().facts.hosts[0], netns=None)
    case = replace(case, focus="n1", facts=replace(case.facts, hosts=(own,), controller=None))
    return changed(case, machine={"xen": Xen.GUEST, **machine})


def test_nobody_looks_for_a_controller_in_a_guest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def of_controller() -> set[str]:
        return {one.code for one in examine.examine(tmp_path)} & {"no-controller"}

    monkeypatch.setattr(examine, "gather_library", lambda: LIBRARY)
    monkeypatch.setattr(examine, "gather_machine", lambda: Machine(xen=Xen.GUEST))
    assert of_controller() == set()
    monkeypatch.setattr(examine, "gather_machine", Machine)
    assert of_controller() == {"no-controller"}


def test_a_sound_guest_is_left_in_peace() -> None:
    assert told(_guest(grants=1024, served=True)) == set()


def test_a_guest_with_one_processor_spins() -> None:
    assert told(_guest(cpus=1)) == set()


def test_a_guest_that_finds_no_controller_is_told_where_to_look() -> None:
    assert told(_guest(served=False)) == {("error", "no-controller")}


def test_a_guest_has_the_address_of_its_node() -> None:
    case = replace(_guest(), focus="n2")
    assert told(case) == {("error", "no-address")}


def test_a_guest_grants_what_the_mapping_says() -> None:
    case = _guest(grants=512)
    assert case.plan is not None
    nodes = tuple(replace(one, limits=Share(1024, 1023)) for one in case.plan.nodes)
    assert told(replace(case, plan=replace(case.plan, nodes=nodes))) == {("error", "few-grants")}
