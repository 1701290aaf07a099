# SPDX-License-Identifier: Apache-2.0
"""One node from its documents."""

from collections.abc import Sequence
from ipaddress import IPv4Address

from ivc.network import fields
from ivc.network.config import DEFAULT_NETMASK, NodeConfig
from ivc.network.model import Node, ServiceDiscovery
from ivc.network.values import Place, Report, Value
from ivc.network.vsomeip.clients import read_clients
from ivc.network.vsomeip.discovery import read_service_discovery
from ivc.network.vsomeip.documents import Documents, first, first_of, words
from ivc.network.vsomeip.kept import KEPT, read_kept
from ivc.network.vsomeip.limits import read_npdu_timings, read_payload_limits
from ivc.network.vsomeip.routing import read_applications, read_routing
from ivc.network.vsomeip.security import (
    read_acceptances,
    read_e2e,
    read_internal_services,
    read_partitions,
    read_secure_services,
    read_security,
)
from ivc.network.vsomeip.services import read_services

_KEYS = KEPT | words(
    "unicast netmask prefix device network routing applications services internal_services "
    "clients service-discovery npdu-default-timings max-payload-size-local "
    "max-payload-size-reliable max-payload-size-unreliable payload-sizes acceptances "
    "secure-services partitions e2e"
)
_NOWHERE = IPv4Address(0)
_MASKS = {"netmask": fields.netmask, "prefix": fields.prefix}
_INSTEAD = {
    "multicast": 'move it into "service-discovery" or into an eventgroup; vsomeip ignores it here',
}


def read_node(names: Sequence[str], documents: Documents, report: Report) -> NodeConfig:
    """Read one node, called `names` by its files; there is at least one name and document."""
    for document in documents:
        fields.warn_unknown(document, _KEYS, "a vsomeip configuration", report, _INSTEAD)
    place = documents[0].place
    unicast = first(documents, "unicast", report)
    sd, sd_place = read_service_discovery(documents, place, report)
    address = _unicast(unicast, place, report)
    node = _node(names[0], address or _NOWHERE, sd, documents, report)
    return NodeConfig(
        names=(*names, *(application.name for application in node.applications)),
        place=place,
        node=node if address is not None else None,
        unicast_place=unicast.place if unicast else place.at("unicast"),
        sd=sd,
        sd_place=sd_place,
        services=tuple(read_services(documents, report)),
    )


def _node(
    name: str, address: IPv4Address, sd: ServiceDiscovery, documents: Documents, report: Report
) -> Node:
    e2e_enabled, e2e = read_e2e(documents, report)
    return Node(
        name=name,
        address=address,
        netmask=_netmask(documents, report),
        sd=sd,
        device=_text(documents, "device", report),
        network=_text(documents, "network", report) or "vsomeip",
        routing=read_routing(documents, report),
        applications=read_applications(documents, report),
        clients=read_clients(documents, report),
        npdu=read_npdu_timings(documents, documents[0].place, report),
        payload=read_payload_limits(documents, report),
        partitions=read_partitions(documents, report),
        acceptances=read_acceptances(documents, report),
        secure_services=read_secure_services(documents, report),
        internal_services=read_internal_services(documents, report),
        security=read_security(documents, report),
        e2e_enabled=e2e_enabled,
        e2e=e2e,
        kept=read_kept(documents, report),
    )


def _text(documents: Documents, key: str, report: Report) -> str | None:
    value = first(documents, key, report)
    return fields.text(value, report) if value is not None else None


def _unicast(value: Value | None, place: Place, report: Report) -> IPv4Address | None:
    if value is not None:
        return fields.unicast(value, report)
    report.error(
        place.at("unicast"),
        "no-unicast",
        'no "unicast"',
        "the node's own address",
        'write "unicast" : "ADDRESS"; vsomeip would use 127.0.0.1 and talk to nobody outside',
    )
    return None


def _netmask(documents: Documents, report: Report) -> IPv4Address:
    """Of the first document that has `netmask` or `prefix`, and of the two `netmask`."""
    masks = first_of(documents, _MASKS, report)
    if masks is None:
        return DEFAULT_NETMASK
    key, value = masks
    return _MASKS[key](value, report) or DEFAULT_NETMASK
