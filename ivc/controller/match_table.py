# SPDX-License-Identifier: Apache-2.0
"""The match table (core/pages.h): by it a wrapper knows what could ever be on rings.

A process that never matches never talks to the controller.
"""

import time

from ivc.controller.hosts import Hosts
from ivc.plan import MatchEntry, Plan
from ivc.shm.layout import MATCH_EAGER, MATCH_LOOPBACK, MatchHeader
from ivc.shm.layout import MatchEntry as EntryLayout


def build_match_table(plan: Plan, hosts: Hosts) -> bytes:
    """The whole table. Its serial is the time in nanoseconds: it grows over restarts too."""
    entries = [_entry(entry, hosts) for entry in plan.match_entries()]
    header: bytes = MatchHeader.build({"entries": len(entries), "serial": time.time_ns()})
    return header + b"".join(entries)


def _entry(entry: MatchEntry, hosts: Hosts) -> bytes:
    place = hosts.at(int(entry.address)) if entry.node else None
    packed: bytes = EntryLayout.build(
        {
            "ip": int(entry.address),
            "port": entry.port,
            "kind": entry.kind,
            "node": entry.node,
            "flags": (MATCH_EAGER if entry.eager else 0)
            | (MATCH_LOOPBACK if entry.loopback else 0),
            "netns": (place.host or 0) if place is not None else 0,
        }
    )
    return packed
