# SPDX-License-Identifier: Apache-2.0
"""What is right in each file and wrong between them: addresses, endpoints, common settings."""

from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

from ivc.network.ethernet import Ethernet, distant
from ivc.network.link import Linked, Offer
from ivc.network.lint_rules import lint_rules
from ivc.network.model import Endpoint, External, LocalHost, Node, Protocol
from ivc.network.values import Place, Report, Table, quote


def lint(linked: Linked, report: Report) -> None:
    """Note everything that does not fit together."""
    _check_addresses_agree(linked, report)
    _check_addresses_differ(linked, report)
    _check_subnets(linked, report)
    _check_discovery_agrees(linked, report)
    _check_offers(linked, report)
    _check_ethernet(linked, report)
    lint_rules(linked, report)


# ---- addresses --------------------------------------------------------------------------------


def _check_addresses_agree(linked: Linked, report: Report) -> None:
    mapping = linked.mapping
    for name, config in linked.configs.items():
        entry = mapping.mapping.node(name)
        if entry is None or entry.address is None or config.unicast in {None, entry.address}:
            continue
        report.error(
            mapping.place(name).at("address"),
            "address-mismatch",
            f'"{entry.address}"',
            f'"{config.unicast}", as in {config.unicast_place.file}',
            "make the two agree, or leave the address out here",
        )


def _placed(linked: Linked) -> Iterator[tuple[IPv4Address, str, Place]]:
    """Address and name of each node, and where the address is written."""
    for name, config in linked.configs.items():
        if config.unicast is not None:
            yield config.unicast, name, config.unicast_place
    for entry in linked.mapping.mapping.nodes:
        if entry.address is not None and entry.name not in linked.configs:
            yield entry.address, entry.name, linked.mapping.place(entry.name).at("address")


def _check_addresses_differ(linked: Linked, report: Report) -> None:
    owners: dict[IPv4Address, str] = {}
    for address, name, place in _placed(linked):
        owner = owners.setdefault(address, name)
        if owner != name:
            report.error(
                place,
                "duplicate-address",
                f'"{address}", the address of node {quote(owner)} too',
                "one address for each node",
                "change one; if both files are of one node, put them into one folder",
            )


def _check_subnets(linked: Linked, report: Report) -> None:
    """One finding for each node that is not in the subnet most nodes are in."""
    subnets = {
        name: _subnet(config.node)
        for name, config in linked.configs.items()
        if config.node is not None
    }
    if not subnets:
        return
    usual, _ = Counter(subnets.values()).most_common(1)[0]
    member = next(name for name, subnet in subnets.items() if subnet == usual)
    for address, name, place in _placed(linked):
        subnet = subnets.get(name)
        if subnet is not None and subnet != usual:
            _report_subnet(f"{address} in {subnet}", f"{usual}", member, place, report)
        elif subnet is None and address not in usual:
            _report_subnet(f'"{address}"', f"an address in {usual}", member, place, report)


def _report_subnet(found: str, expected: str, member: str, place: Place, report: Report) -> None:
    report.warning(
        place,
        "other-subnet",
        found,
        f"{expected}, the subnet of node {quote(member)}",
        "check address and netmask; vsomeip drops multicast from other subnets",
    )


def _subnet(node: Node) -> IPv4Network:
    return IPv4Network((int(node.address), str(node.netmask)), strict=False)


# ---- settings all nodes must share ------------------------------------------------------------


def _check_discovery_agrees(linked: Linked, report: Report) -> None:
    enabled = [
        (name, config)
        for name, config in linked.configs.items()
        if config.sd.enabled
        and not any(report.blames(config.sd_place.at(key)) for key in ("multicast", "port"))
    ]
    if not enabled:
        return
    usual, _ = Counter(config.sd.group for _, config in enabled).most_common(1)[0]
    member = next(name for name, config in enabled if config.sd.group == usual)
    for _, config in enabled:
        if config.sd.group != usual:
            report.warning(
                config.sd_place,
                "sd-mismatch",
                f"service discovery on {config.sd.group}",
                f"{usual}, as node {quote(member)} has it",
                "use one group and port everywhere; these nodes never find each other",
            )


# ---- services ---------------------------------------------------------------------------------


def _check_offers(linked: Linked, report: Report) -> None:
    first: dict[tuple[int, int, str, tuple[Endpoint, ...]], Offer] = {}
    for offer in linked.offers:
        known = first.setdefault(offer.key, offer)
        if known is offer:
            _check_remote(offer, linked, report)
        else:
            _check_same(offer, known, report)
    _check_offered_once(first.values(), report)
    _check_endpoints(first.values(), linked, report)


def _check_remote(offer: Offer, linked: Linked, report: Report) -> None:
    """A service placed on another node that is the first to be heard of it."""
    node = offer.instance.node
    if node is None:
        if linked.mapping.implied:  # without a mapping nobody claims to know all nodes
            return
        report.warning(
            offer.config.place.at("unicast"),
            "stranger",
            f'service {offer.instance} at "{offer.config.unicast}", which is no node\'s address',
            "the address of a mapped node",
            "map that node (external = true if it is on Ethernet); its traffic stays there",
        )
    elif offer.config.unicast is not None and node != offer.author and node in linked.configs:
        report.warning(
            offer.config.place,
            "not-offered",
            f"service {offer.instance} of node {quote(node)}",
            f"a service that {linked.configs[node].place.file} configures",
            "correct the address, or add the service there",
        )


def _check_same(offer: Offer, known: Offer, report: Report) -> None:
    """The same instance of the same node written down twice."""
    mine, theirs = set(offer.instance.endpoints), set(known.instance.endpoints)
    if mine <= theirs:
        return
    report.warning(
        offer.config.place,
        "remote-mismatch",
        f"service {offer.instance} at {', '.join(map(str, sorted(mine)))}",
        f"{', '.join(map(str, sorted(theirs))) or 'no port'}, as in {known.config.place.file}",
        "make the ports agree; the node's own file counts",
    )


def _check_offered_once(offers: Iterable[Offer], report: Report) -> None:
    first: dict[tuple[int, int], Offer] = {}
    for offer in offers:
        known = first.setdefault((offer.instance.service, offer.instance.instance), offer)
        if known is not offer:
            report.warning(
                offer.config.place,
                "offered-twice",
                f"service {offer.instance}, which node {quote(str(known.instance.node))} offers",
                "each instance offered by one node",
                "give one of them another instance id; clients cannot tell the two apart",
            )


def _check_endpoints(offers: Iterable[Offer], linked: Linked, report: Report) -> None:
    users: dict[Endpoint, Offer] = {}
    for offer in offers:
        for endpoint, port in zip(offer.instance.endpoints, offer.config.ports, strict=True):
            other = users.setdefault(endpoint, offer)
            if other is not offer:
                _report_shared(endpoint, offer, other, port.place, report)
            if _is_sd(endpoint, offer.instance.node, linked):
                report.error(
                    port.place,
                    "port-of-sd",
                    f'"{endpoint.port}", the port of service discovery',
                    "a port of the service's own",
                    "choose another port",
                )


def _is_sd(endpoint: Endpoint, node: str | None, linked: Linked) -> bool:
    config = linked.configs.get(node or "")
    return (
        config is not None
        and config.sd.enabled
        and endpoint.protocol is Protocol.UDP
        and endpoint.port == config.sd.port
    )


def _report_shared(
    endpoint: Endpoint, offer: Offer, other: Offer, place: Place, report: Report
) -> None:
    found = f"{endpoint}, the endpoint of service {other.instance} too"
    if offer.instance.service == other.instance.service:
        report.error(
            place,
            "instances-share-port",
            found,
            "a port of its own for each instance of a service",
            "choose another port; a message does not name the instance",
        )
    else:
        report.warning(
            place,
            "shared-endpoint",
            found,
            "one service for each endpoint",
            "choose another port if this is not meant; both services share their rings",
        )


# ---- the way outside --------------------------------------------------------------------------


def _check_ethernet(linked: Linked, report: Report) -> None:
    """Nodes outside, the way to them, and dom0's own address, if there is such a way."""
    ethernet = linked.mapping.mapping.ethernet
    if ethernet is None:
        return
    document = linked.mapping.document
    table = document.get("ethernet") if isinstance(document, Table) else None
    place = table.place if table is not None else document.place
    external = [node for node in linked.network.nodes if _is_external(linked, node)]
    if not external and linked.mapping.mapping.nodes:
        report.warning(
            place,
            "unused-ethernet",
            "a way outside, and no external node",
            "a node with external = true",
            "map the nodes that are outside, or remove [ethernet]",
        )
    inside = [node for node in linked.network.nodes if node not in external]
    _check_routed(ethernet, distant(external, inside), place, report)
    _check_own_address(ethernet, linked, place, report)


def _is_external(linked: Linked, node: Node) -> bool:
    entry = linked.mapping.mapping.node(node.name)
    return entry is not None and isinstance(entry.domain, External)


def _check_routed(ethernet: Ethernet, far: Iterable[Node], place: Place, report: Report) -> None:
    for node in far:
        if ethernet.address is None:
            report.error(
                place.at("address"),
                "no-router",
                f"node {quote(node.name)} at {node.address}, in the subnet of no inside node",
                "an address of dom0 on the bridge, by which it routes",
                'write address = "10.77.0.254/24", one that nodes inside have as their gateway',
            )


def _check_own_address(ethernet: Ethernet, linked: Linked, place: Place, report: Report) -> None:
    """dom0's address may be that of a node only if the node is in dom0."""
    for node in linked.network.nodes:
        entry = linked.mapping.mapping.node(node.name)
        here = entry is not None and entry.domain in {LocalHost(None), External()}
        if ethernet.address is not None and node.address == ethernet.address.ip and not here:
            report.error(
                place.at("address"),
                "duplicate-address",
                f'"{ethernet.address.ip}", the address of node {quote(node.name)} too',
                "an address of dom0's own",
                "write one that no node elsewhere has",
            )
