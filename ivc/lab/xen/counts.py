# SPDX-License-Identifier: Apache-2.0
"""What Xen itself says is in use: grants, event channels, XenStore nodes, memory.

Read from the hypervisor's debug keys `g` and `e` (xl(1), debug-keys), from XenStore
and from `xl list` and `xl info`. Domains go by their names, so that counts from before
and after a domain's new life compare.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from ivc.lab.hosts import LabError
from ivc.lab.xen.lab import XenLab

_SCRIPT = """
xl dmesg -c >/dev/null
xl debug-keys g
xl debug-keys e
xl dmesg
echo; echo ==
xl list
echo ==
xenstore-ls -f
echo ==
xl info | grep free_memory
"""
_GRANTER = re.compile(r"grant-table for remote d(\d+)")
_GRANT = re.compile(r"\[0x[0-9a-f]+\] +(\d+) ")
_PORTS_OF = re.compile(r"Event channel information for domain (\d+)")
_PORT = re.compile(r"\[.*\]: s=(\d)")
_UNBOUND, _INTERDOMAIN = "2", "3"
_KEPT = re.compile(r'/(data/ivc|ivc/answer) = ""$|^/vm/[^/]+/image/')
_OF_A_LIFE = re.compile(r"/[0-9a-f]{8}-[0-9a-f-]{27}(?=/|$)|/\d+(?=/|$)")
_SETTLE_SECONDS = 20.0
_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Counts:
    """In use at one moment.

    `grants`: pages mapped, by (owner, who maps them); `ports`: event channels to other
    domains or waiting for one; `nodes`: of XenStore, by path with `*` for numbers and uuids, but
    for the two empty folders IVC keeps while a guest lives and what xl forgets with a save (its
    image); `zombies`: dead domains somebody still maps a page of.
    """

    grants: Mapping[tuple[str, str], int]
    ports: Mapping[str, int]
    nodes: Mapping[str, int]
    free_mib: int
    zombies: int


def look(lab: XenLab) -> Counts:
    """The counts of this moment. Raises LabError."""
    return parse(lab.dom0.shell(_SCRIPT))


def take(lab: XenLab) -> Counts:
    """The counts, once they stand still: the disks' own grants come and go. Raises LabError."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    counts = look(lab)
    while (again := look(lab)) != counts:
        if time.monotonic() > deadline:
            raise LabError(f"Xen's counts do not stand still: {list(differences(counts, again))}")
        counts = again
        time.sleep(_PAUSE_SECONDS)
    return counts


def differences(before: Counts, after: Counts) -> Iterator[str]:
    """What is not as it was, as text: nothing if everything was given back."""
    for field in fields(Counts):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if isinstance(old, Mapping):
            keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
            old, new = ({key: each.get(key, 0) for key in keys} for each in (old, new))
        if old != new:
            yield f"{field.name}: {old} before, {new} after"


def parse(text: str) -> Counts:
    """What the script above has printed. Raises LabError if something is missing."""
    parts = text.split("==\n")
    if len(parts) != 4 or "grant-table" not in parts[0] or "Event channel" not in parts[0]:
        raise LabError(f"Xen does not say what is in use: {text[-500:]}")
    names = _names(parts[1])
    grants: Counter[tuple[str, str]] = Counter()
    ports: Counter[str] = Counter()
    owner = ""
    for line in parts[0].splitlines():
        if begins := _GRANTER.search(line) or _PORTS_OF.search(line):
            owner = names.get(begins[1], "(dead)")
        elif mapped := _GRANT.search(line):
            grants[owner, names.get(mapped[1], "(dead)")] += 1
        elif (port := _PORT.search(line)) and port[1] in (_UNBOUND, _INTERDOMAIN):
            ports[owner] += 1
    return Counts(
        grants=grants,
        ports=ports,
        nodes=Counter(_nodes(parts[2])),
        free_mib=int(parts[3].rpartition(":")[2]),
        zombies=sum(name == "(null)" for name in names.values()),
    )


def _nodes(listing: str) -> Iterator[str]:
    for line in listing.splitlines():
        if line and not _KEPT.search(line):
            yield _OF_A_LIFE.sub("/*", line.partition(" = ")[0])


def _names(listing: str) -> dict[str, str]:
    """Names by domain id."""
    rows = [line.split() for line in listing.splitlines()[1:]]
    return {row[1]: row[0] for row in rows}
