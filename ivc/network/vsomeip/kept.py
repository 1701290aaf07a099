# SPDX-License-Identifier: Apache-2.0
"""Sections IVC has no use for: their keys are looked at, their text is kept."""

import json

from ivc.network import fields
from ivc.network.values import Array, Report, Scalar, Table, Value
from ivc.network.vsomeip.documents import Documents, words

# Keys of the members, where they are objects. `security` and `routing-credentials` are policy.
_SECTIONS: dict[str, frozenset[str]] = {
    "logging": words(
        "console file dlt level version memory_log_interval status_log_interval statistics"
    ),
    "tracing": words("enable sd_enable channels filters"),
    "network-options": words(
        "local-tcp-user-timeout local-tcp-keepidle local-tcp-keepintvl local-tcp-keepcnt "
        "external-tcp-user-timeout external-tcp-keepidle external-tcp-keepintvl "
        "external-tcp-keepcnt"
    ),
    "file-permissions": words("permissions-uds permissions-shm"),
    "dispatching": words("max_dispatch_time max_dispatchers"),
    "routing-credentials": words("uid gid"),
    "security-update-whitelist": words("uids services check-whitelist"),
    "watchdog": words("enable timeout allowed_missing_pongs"),
    "local-clients-keepalive": words("enable enabled time"),
}
# Not looked into. The last four are of older releases.
_OPAQUE = words(
    "security diagnosis diagnosis_mask uds-preferred buffer-shrink-threshold "
    "endpoint-queue-limit-external endpoint-queue-limit-local endpoint-queue-limits "
    "udp-receive-buffer-size tcp-restart-aborts-max tcp-connect-time-max debounce "
    "supports_selective_broadcasts request_debounce_time suppress_missing_event_logs "
    "container_policy_extensions "
    "shutdown_timeout routing-client-ports plugins servicegroups"
)

KEPT = _OPAQUE | _SECTIONS.keys()


def read_kept(documents: Documents, report: Report) -> tuple[tuple[str, str], ...]:
    """Name and JSON text of each such section, sorted; of several the first."""
    kept: dict[str, str] = {}
    for document in documents:
        for key in KEPT & document.items.keys():
            value = document.items[key]
            if key in _SECTIONS and isinstance(value, Table):
                fields.warn_unknown(value, _SECTIONS[key], key, report)
            kept.setdefault(key, json.dumps(_plain(value)))
    return tuple(sorted(kept.items()))


def _plain(value: Value) -> object:
    """The value as vsomeip sees it: every scalar is text."""
    match value:
        case Scalar(text):
            return text
        case Array(items):
            return [_plain(item) for item in items]
        case Table(items):
            return {key: _plain(item) for key, item in items.items()}
