# SPDX-License-Identifier: Apache-2.0
"""The section `clients`: ports the node's own clients send from."""

from ivc.network import fields
from ivc.network.model import Client
from ivc.network.values import Report, Table
from ivc.network.vsomeip.documents import Documents, entries, words

_KEYS = words(
    "service instance reliable unreliable reliable_remote_ports unreliable_remote_ports "
    "reliable_client_ports unreliable_client_ports"
)


def read_clients(documents: Documents, report: Report) -> tuple[Client, ...]:
    """All entries, in order: vsomeip tries them one after the other."""
    return tuple(_client(entry, report) for entry in entries(documents, "clients", report))


def _client(entry: Table, report: Report) -> Client:
    fields.warn_unknown(entry, _KEYS, "a client", report)
    example = '[ "40000" ]'
    return Client(
        service=fields.optional(entry, "service", fields.own_id, report),
        instance=fields.optional(entry, "instance", fields.own_id, report),
        udp_ports=fields.each(entry.get("unreliable"), fields.any_port, report, example),
        tcp_ports=fields.each(entry.get("reliable"), fields.any_port, report, example),
        udp_remote=fields.optional(entry, "unreliable_remote_ports", fields.port_range, report),
        tcp_remote=fields.optional(entry, "reliable_remote_ports", fields.port_range, report),
        udp_client=fields.optional(entry, "unreliable_client_ports", fields.port_range, report),
        tcp_client=fields.optional(entry, "reliable_client_ports", fields.port_range, report),
    )
