# SPDX-License-Identifier: Apache-2.0
"""A fault as a document, for programs, and as a line, for people."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the controller has them; who only shows a line does without
    from ivc.controller.data_communication import DataCommunicationController
    from ivc.controller.faults import Fault


def describe_fault(dcc: "DataCommunicationController", fault: "Fault") -> dict[str, Any]:
    """The order it came by, its number, and how often it matched and acted."""
    matched, acted = dcc.fault_counts(fault)
    order = {"seed": fault.armed.seed} | dict(fault.order)
    return {"id": fault.ident, **order, "matched": matched, "acted": acted}


def fault_line(fault: dict[str, Any]) -> str:
    """What `describe_fault` says. Times are ns there."""
    match = " ".join(f"{key} {_shown(value)}" for key, value in fault.get("match", {}).items())
    values = " ".join(
        f"{key} {value / 10**6:g}ms" if key in {"delay", "jitter", "time"} else f"{key} {value}"
        for key, value in fault.items()
        if key not in {"id", "match", "effect", "matched", "acted"}
    )
    counts = f"matched {fault['matched']}, acted {fault['acted']}"
    return f"{fault['id']}: {fault['effect']} {values}; {match or 'everything'}; {counts}"


def _shown(value: str | int) -> str:
    return f"0x{value:04x}" if isinstance(value, int) else value
