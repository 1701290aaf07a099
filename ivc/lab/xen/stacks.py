# SPDX-License-Identifier: Apache-2.0
"""Third-party SOME/IP stacks from guest to guest, and from outside meanwhile.

The server's guest serves the client's guest and a node outside at the same time,
from the same sockets.
"""

from __future__ import annotations

import json
from contextlib import ExitStack

from ivc.lab.control import CLIENT_HOST, SERVER_HOST, JsonObject
from ivc.lab.hosts import LabError
from ivc.lab.peers import common
from ivc.lab.xen import outside as outside_node
from ivc.lab.xen.lab import XenLab
from ivc.lab.xen.machine import Process
from ivc.lab.xen.outside import Outside
from ivc.lab.xen.results import Run
from ivc.lab.xen.vifs import payload_bytes
from ivc.lab.xen.ways import Way

PAIRS = (("opensomeip", "pysomeip"), ("pysomeip", "opensomeip"))
"""Server and client."""
PAYLOAD = 1024
"""So large that service discovery, some hundred bytes a second, does not count."""
# Its calls come from the endpoint it subscribes with, as the opensomeip server wants it.
_OUTSIDE_STACK = "pysomeip"
_END_SECONDS = 60.0
_CALL_SECONDS = 0.2  # ten times what a call takes
_OUTSIDE_SHARE = 5


def talk(lab: XenLab, node: Outside, pair: tuple[str, str], way: Way, calls: int) -> Run:
    """Discovery, calls and events of one pair, from start to end.

    `calls` are the inside client's; the one outside makes a fifth of that. Raises LabError.
    """
    server_stack, client_stack = pair
    server, client = lab.domU(SERVER_HOST), lab.domU(CLIENT_HOST)
    before = payload_bytes(lab, client)
    with ExitStack() as stack:
        serving = stack.enter_context(
            server.popen(
                _command(f"{server_stack}_server", server.address, calls),
                env=way.environment,
                open_input=True,
            )
        )
        calling = stack.enter_context(
            client.popen(
                _command(f"{client_stack}_client", client.address, calls),
                env=way.environment,
                open_input=True,
            )
        )
        address = str(outside_node.ADDRESS.ip)
        without = stack.enter_context(
            node.popen(_command(f"{_OUTSIDE_STACK}_client", address, calls // _OUTSIDE_SHARE))
        )
        client_report, outside_report = _first(calling, calls), _first(without, calls)
        for process in (calling, without, serving):
            process.end_input()
        server_report = _last(serving)
        for process in (calling, without):
            process.wait(_END_SECONDS)
    crossed = payload_bytes(lab, client) - before
    return Run(
        path=way,
        program=f"{server_stack} server, {client_stack} client",
        size=PAYLOAD,
        p50=client_report["rtt_us"].get("p50", 0.0),
        p99=client_report["rtt_us"].get("p99", 0.0),
        messages=_messages(client_report),
        lost=_lost(client_report),
        spoiled=_spoiled(server_report) + _spoiled(client_report),
        vif_fraction=crossed / _inside_bytes(client_report),
        outside_messages=_messages(outside_report),
        outside_lost=_lost(outside_report) + _spoiled(outside_report),
    )


def _command(module: str, address: str, count: int) -> list[str]:
    options = ["--address", address, "--count", str(count), "--payload", str(PAYLOAD)]
    return ["python3", "-m", f"ivc.lab.peers.{module}", *options]


def _first(process: Process, calls: int) -> JsonObject:
    """What a client tells when its calls are made; it lives on until its input ends."""
    process.wait_for("}\n", 4 * common.DISCOVERY_SECONDS + calls * _CALL_SECONDS)
    return _report(process)


def _last(process: Process) -> JsonObject:
    done = process.wait(_END_SECONDS)
    if done.status != 0:
        raise LabError(f"a server fails ({done.status}): {done.stderr.strip()[-2000:]}")
    return _report(process)


def _report(process: Process) -> JsonObject:
    report = json.loads(process.stdout)
    assert isinstance(report, dict)
    return report


def _messages(client: JsonObject) -> int:
    """Calls, answers and events, as the client has seen them."""
    return int(client["sent"] + client["received"] + client["events"])


def _inside_bytes(client: JsonObject) -> int:
    """UDP payload the programs inside sent to each other, SD not counted; answers echo."""
    back = int(client["received"] + client["events"]) * (common.HEADER_BYTES + PAYLOAD)
    return int(client["bytes_sent"]) + back


def _lost(client: JsonObject) -> int:
    return int(client["lost"] + client["events_lost"])


def _spoiled(peer: JsonObject) -> int:
    return int(peer["twice"] + peer["out_of_order"] + (peer["reboots_detected"] or 0))
