# SPDX-License-Identifier: Apache-2.0
"""What a live picture is told: the flows of a status document, each at the link it belongs to.

Counters, not rates: the page computes those, so that nothing is kept here between two looks.
"""

from collections.abc import Mapping
from typing import Any

from ivc.controller.tables import fill
from ivc.observe.topology import Topology

Document = dict[str, Any]


def live(document: Document, picture: Topology) -> Document:
    """The clock the counters go by, and the flows between two nodes of the picture."""
    ids = {member.name: member.id for member in picture.inside}
    told = (_flow(flow, ids) for flow in document["flows"])
    clock = document["controller"]["clock"]
    return {"clock": clock, "flows": [flow for flow in told if flow is not None]}


def _flow(flow: Document, ids: Mapping[str, int]) -> Document | None:
    """None: one of its nodes is not in the picture."""
    ends = [ids.get(flow[end]["node"]) for end in ("sender", "receiver")]
    if None in ends:
        return None
    first, last = sorted(end for end in ends if end is not None)
    return {
        "id": flow["id"],
        "link": f"{first} {last} {flow['path']}",
        "written": flow["rings"][0]["written"] if flow["rings"] else None,
        "messages": flow.get("messages"),
        "fill": fill(flow),
    }
