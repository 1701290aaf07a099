# SPDX-License-Identifier: Apache-2.0
"""A test as it may stand beside your own nodes: see docs/testing.md.

python3 -m pytest examples/test_nodes.py
"""

import json
import sys

import pytest

pytestmark = pytest.mark.ivc(config=["hmi.json", "adas.json"], mapping="mapping.toml")

PEERS = "ivc.lab.peers"  # any program will do: these are two third-party SOME/IP stacks


def test_a_client_gets_all_its_answers(ivc_lab):
    adas = [sys.executable, "-m", f"{PEERS}.opensomeip_server", "--address", "10.77.0.2"]
    hmi = [sys.executable, "-m", f"{PEERS}.pysomeip_client", "--address", "10.77.0.1"]
    ivc_lab.start("adas", adas)
    ivc_lab.wait_for_service(0x1234)
    client = ivc_lab.start("hmi", [*hmi, "--count", "200"])
    client.wait_for_output("\n", timeout=30)
    report = json.loads(client.output)
    assert (report["received"], report["lost"]) == (200, 0)
    ivc_lab.wait_for_way("hmi", messages=100)  # natively, direct or relayed, as the test is run
    client.end_input()
    assert client.wait() == 0
