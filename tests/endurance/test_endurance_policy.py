# SPDX-License-Identifier: Apache-2.0
"""An allow-list made of the configuration, tried and then enforced while programs call."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from endurance_field import Field
from test_endurance_faults import METHOD, await_path, caller

from ivc.controller.client import reload

STRANGER = 0x7777


def apply_policy(field: Field, mode: str) -> None:
    """As docs/rules.md says."""
    field.write_mapping("direct")
    files = [str(field.folder / f"{name}.json") for name in ("hmi", "adas")]
    command = [sys.executable, "-m", "ivc", "plan", *files]
    command += ["--mapping", str(field.folder / "mapping.toml"), "--emit-policy", mode]
    text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    field.write_mapping("direct", text)
    reload(field.run_dir)


def denied(field: Field) -> list[dict[str, Any]]:
    status = field.status()
    assert status is not None
    found = status["relay"]["denied"]
    return sorted(found, key=lambda one: (one["passed"], one["to"]))


def test_what_the_configuration_does_not_know_is_audited_then_denied_and_nothing_else(
    field: Field,
) -> None:
    strange = {"service": STRANGER, "method": METHOD}
    there, back = {"from": "hmi", "to": "adas"}, {"from": "adas", "to": "hmi"}
    with caller(field) as calls:
        apply_policy(field, "audit")
        await_path(field, calls, "relay")
        assert calls.ask(f"{METHOD} 20 {STRANGER}")["lost"] == []
        audited = [{**way, **strange, "messages": 20, "passed": True} for way in (there, back)]
        assert denied(field) == audited
        apply_policy(field, "enforce")
        assert calls.ask(f"{METHOD} 5 {STRANGER}")["lost"] == list(range(5))
        assert calls.ask(f"{METHOD} 200")["lost"] == []
        assert denied(field) == [{**there, **strange, "messages": 5, "passed": False}, *audited]
