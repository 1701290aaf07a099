# SPDX-License-Identifier: Apache-2.0
"""Xen's own counts see what the tests of leaks stand on."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ivc.lab.xen.counts import Counts, differences, take
from ivc.lab.xen.lab import XenLab

# Grants a page to the other guest, which maps it, until killed.
OFFER = """
import ctypes, sys, time
share = ctypes.CDLL("libxengnttab.so.1", use_errno=True)
share.xengntshr_open.restype = share.xengntshr_share_pages.restype = ctypes.c_void_p
refs = (ctypes.c_uint32 * 1)()
handle = ctypes.c_void_p(share.xengntshr_open(None, 0))
assert share.xengntshr_share_pages(handle, int(sys.argv[1]), 1, refs, 0)
print(refs[0], flush=True)
time.sleep(600)
"""
TAKE = """
import ctypes, sys, time
tab = ctypes.CDLL("libxengnttab.so.1", use_errno=True)
tab.xengnttab_open.restype = tab.xengnttab_map_grant_ref.restype = ctypes.c_void_p
handle = ctypes.c_void_p(tab.xengnttab_open(None, 0))
assert tab.xengnttab_map_grant_ref(handle, int(sys.argv[1]), int(sys.argv[2]), 1)
print("mapped", flush=True)
time.sleep(600)
"""


def test_a_page_mapped_by_another_guest_counts_until_it_is_given_back(lab: XenLab) -> None:
    hmi, adas = lab.domU("hmi"), lab.domU("adas")
    before = take(lab)
    with hmi.popen(["python3", "-c", OFFER, str(adas.domid())]) as offering:
        offering.wait_for("\n")
        taking = ["python3", "-c", TAKE, str(hmi.domid()), offering.stdout.strip()]
        with adas.popen(taking) as mapped:
            mapped.wait_for("mapped")
            during = take(lab)
            assert during.grants["hmi", "adas"] == before.grants.get(("hmi", "adas"), 0) + 1
    assert list(differences(before, take(lab))) == []


@dataclass(frozen=True)
class Life:
    counts: Counts
    wire: str


def life(lab: XenLab) -> Life:
    return Life(take(lab), lab.domU("adas").shell("cat /sys/class/net/eth*/address"))


@pytest.fixture(scope="module")
def lives(lab: XenLab) -> tuple[Life, Counts, Life]:
    """A guest's life, the counts without it, and its next life."""
    first = life(lab)
    lab.domU("adas").destroy()
    between = take(lab)
    lab.domU("adas").create()
    return first, between, life(lab)


@pytest.mark.full
def test_a_guests_new_life_takes_what_the_old_one_had(lives: tuple[Life, Counts, Life]) -> None:
    first, between, second = lives
    assert list(differences(first.counts, between))
    assert list(differences(first.counts, second.counts)) == []


@pytest.mark.full
def test_others_find_a_guest_in_its_new_life_where_it_was(lives: tuple[Life, Counts, Life]) -> None:
    first, _, second = lives
    assert first.wire == second.wire
