# SPDX-License-Identifier: Apache-2.0
"""What the hypervisor prints is read right, and a leak shows."""

from __future__ import annotations

import pytest

from ivc.lab.hosts import LabError
from ivc.lab.xen.counts import differences, parse

PRINTED = """\
(XEN) gnttab_usage_print_all [ key 'g' pressed
(XEN)       -------- active --------       -------- shared --------
(XEN) [ref] localdom mfn      pin          localdom gmfn     flags
(XEN) grant-table for remote d0 (v1)
(XEN)   1 frames (64 max), 1 maptrack frames (1024 max)
(XEN) no active grant table entries
(XEN) grant-table for remote d1 (v1)
(XEN)   3 frames (64 max), 0 maptrack frames (1024 max)
(XEN) [0x000]      0 0x7fc02 0x00000002          0 0x07fc02 0x19
(XEN) [0x008]      2 0x7ab5a 0x00000001          2 0x07ab5a 0x1d
(XEN) [0x009]      2 0x7ab6f 0x00000001          2 0x07ab6f 0x1d
(XEN) 'e' pressed -> dumping event-channel info
(XEN) Event channel information for domain 1:
(XEN) Polling vCPUs: {}
(XEN)     port [p/m/s]
(XEN)        1 [0/0/  -   ]: s=3 n=0 x=0 d=0 p=22
(XEN)        2 [1/0/  -   ]: s=2 n=0 x=0 d=2
(XEN)        3 [0/0/  -   ]: s=5 n=0 x=0 v=0
(XEN)        4 [0/0/  -   ]: s=6 n=0 x=0

==
Name                                        ID   Mem VCPUs	State	Time(s)
Domain-0                                     0  1024     1     r-----      38.9
hmi                                          1   256     1     -b----      13.5
(null)                                       2     0     1     --p--d      14.9
==
/local/domain/1/name = "hmi"
/local/domain/1/data/ivc = ""
/local/domain/2/name = "adas"
/vm/0f3c1a52-77f1-4b0e-9d3e-5ab6a3f0c8de/name = "hmi"
/vm/0f3c1a52-77f1-4b0e-9d3e-5ab6a3f0c8de/image/kernel = "/boot/vmlinuz"
==
free_memory            : 1501
"""


def test_grants_go_by_owner_and_mapper() -> None:
    assert parse(PRINTED).grants == {("hmi", "Domain-0"): 1, ("hmi", "(null)"): 2}


def test_only_ports_to_other_domains_count() -> None:
    assert parse(PRINTED).ports == {"hmi": 2}


def test_nodes_memory_and_zombies_are_read() -> None:
    counts = parse(PRINTED)
    assert (counts.free_mib, counts.zombies) == (1501, 1)
    assert counts.nodes == {"/local/domain/*/name": 2, "/vm/*/name": 1}


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("[0x009]      2", "[0x009]      0", "grants"),
        ("s=6", "s=3", "ports"),
        ("domain/2/name", "domain/2/more", "nodes"),
        ("1501", "1500", "free_mib"),
        ("(null)", "adas  ", "zombies"),
    ],
)
def test_whatever_is_not_as_it_was_is_named(old: str, new: str, field: str) -> None:
    changed = list(differences(parse(PRINTED), parse(PRINTED.replace(old, new))))
    assert any(line.startswith(f"{field}: ") for line in changed)


def test_nothing_changed_is_nothing_said() -> None:
    assert list(differences(parse(PRINTED), parse(PRINTED))) == []


@pytest.mark.parametrize("missing", ["grant-table", "Event channel", "==\n"])
def test_what_cannot_be_read_is_an_error_and_not_a_zero(missing: str) -> None:
    with pytest.raises(LabError):
        parse(PRINTED.replace(missing, ""))
