# SPDX-License-Identifier: Apache-2.0
"""The C ping-pong from guest to guest: one round trip after the other."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence

from ivc.lab.control import CLIENT_HOST, SERVER_HOST
from ivc.lab.peers import common
from ivc.lab.xen.lab import XenLab
from ivc.lab.xen.results import Run
from ivc.lab.xen.vifs import payload_bytes
from ivc.lab.xen.ways import Way

PROGRAM = "/opt/ivc/build/pingpong"
NAME = "pingpong"
SIZES = (64, 1024)
# Round trips of a run: each takes a second or two, the start of the rings included.
_COUNTS = {Way.VIF: 300, Way.DIRECT_SPIN: 5000, Way.DIRECT: 1500, Way.RELAY: 600}
_PATIENCE_SECONDS = 120.0


def ping_pong(lab: XenLab, way: Way, size: int) -> Run:
    """One server, one client, `size` bytes each way. Raises LabError."""
    server, client = lab.domU(SERVER_HOST), lab.domU(CLIENT_HOST)
    there = [server.address, str(common.SERVER_PORT)]
    here = [client.address, str(common.CLIENT_PORT)]
    numbers = ["--count", str(_COUNTS[way]), "--size", str(size)]
    before = payload_bytes(lab, client)
    with server.popen([PROGRAM, "server", *there], env=way.environment) as serving:
        serving.wait_for("ready", _PATIENCE_SECONDS)
        command = [PROGRAM, "client", *here, *there, *numbers]
        done = client.run(command, _PATIENCE_SECONDS, env=way.environment)
    report = json.loads(done.stdout)
    sent = (report["sent"] + report["received"]) * size
    return Run(
        path=way,
        program=NAME,
        size=size,
        p50=report["rtt_us"]["p50"],
        p99=report["rtt_us"]["p99"],
        messages=report["sent"] + report["received"],
        lost=report["lost"],
        spoiled=report["strange"],
        vif_fraction=(payload_bytes(lab, client) - before) / sent,
    )


def median_of(runs: Sequence[Run]) -> Run:
    """Runs of one way and size as one: medians of the times, sums of the counts."""
    return Run(
        path=runs[0].path,
        program=runs[0].program,
        size=runs[0].size,
        p50=statistics.median(run.p50 for run in runs),
        p99=statistics.median(run.p99 for run in runs),
        messages=sum(run.messages for run in runs),
        lost=sum(run.lost for run in runs),
        spoiled=sum(run.spoiled for run in runs),
        vif_fraction=statistics.median(run.vif_fraction for run in runs),
    )
