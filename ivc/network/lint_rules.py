# SPDX-License-Identifier: Apache-2.0
"""What rules and network have to say to each other: services nobody has, rules that never match,
and what a rule would have to look into and cannot."""

from collections.abc import Collection, Iterable, Sequence

from ivc.network.link import Linked
from ivc.network.mapping import Promote
from ivc.network.model import Endpoint, External, Network, Node, Protocol
from ivc.network.rules import Action, Rule
from ivc.network.values import Array, Place, Report, Table
from ivc.network.ways import Offers, Way, candidates, concerned, covers, sd_endpoints
from ivc.someip.header import SD_SERVICE


def lint_rules(linked: Linked, report: Report) -> None:
    """Note what is wrong with rules of a network that is right by itself."""
    rules = linked.mapping.mapping.rules
    if not rules or report.has_errors:
        return
    for rule in rules:
        _check_service(rule, linked, report)
        _check_copies(rule, linked, report)
    if not report.has_errors:
        _check_ways(rules, linked, report)


def _place(rule: Rule, linked: Linked) -> Place:
    document = linked.mapping.document
    listed = document.get("rule") if isinstance(document, Table) else None
    assert isinstance(listed, Array)
    return listed.items[rule.number - 1].place


def _check_service(rule: Rule, linked: Linked, report: Report) -> None:
    """A slip here would make a rule that matches nothing, and lets everything through."""
    services = linked.network.services
    known = {one.service for one in services}
    if rule.service is None or (rule.service == SD_SERVICE and rule.instance is None):
        return
    if rule.service not in known:
        _report_unknown("service", rule.service, known, _place(rule, linked), report)
        return
    instances = {one.instance for one in services if one.service == rule.service}
    if rule.instance is not None and rule.instance not in instances:
        _report_unknown("instance", rule.instance, instances, _place(rule, linked), report)


def _check_copies(rule: Rule, linked: Linked, report: Report) -> None:
    """To an address nobody has they would go in silence."""
    known = {node.address: node.name for node in linked.network.nodes}
    if not isinstance(rule.copy_to, Endpoint) or rule.copy_to.address in known:
        return
    named = ", ".join(f"{known[each]} at {each}" for each in sorted(known))
    report.error(
        _place(rule, linked).at("copy_to"),
        "copy-node",
        f"copies to {rule.copy_to.address}, the address of no node",
        f"one of those there are: {named}",
        "correct the address, or map who gets them (external = true for a node outside)",
    )


def _report_unknown(
    key: str, number: int, known: Collection[int], place: Place, report: Report
) -> None:
    named = ", ".join(f"0x{each:04x}" for each in sorted(known)) or "none"
    report.error(
        place.at(key),
        "rule-service",
        f"{key} 0x{number:04x}, which no configuration file has",
        f"one of those there are: {named}",
        "correct the number, or add the file of whoever offers it",
    )


def _check_ways(rules: Sequence[Rule], linked: Linked, report: Report) -> None:
    reached = {way: candidates(rules, way) for way in concerned(rules, _ways(linked))}
    for rule in rules:
        place = _place(rule, linked)
        met = [way for way, found in reached.items() if rule in found]
        if not met:
            _report_unreachable(rule, rules, place, report)
        elif rule.action is Action.DENY and (unseen := _unseen(met, linked)):
            _report_tcp(unseen[0], place, report)
        elif rule.action is Action.NETWORK and not all(covers(rule, way) for way in met):
            _report_shared(next(way for way in met if not covers(rule, way)), place, report)


def _unseen(ways: Iterable[Way], linked: Linked) -> Sequence[Way]:
    """Those of TCP, if nobody looks into it, as it is not promoted."""
    if linked.mapping.mapping.promotion is not Promote.NEVER:
        return ()
    return [way for way in ways if way.protocol is Protocol.TCP]


def _ways(linked: Linked) -> Iterable[Way]:
    network: Network = linked.network
    inside = [node for node in network.nodes if _is_inside(node, linked)]
    return Offers(network.services, sd_endpoints(network)).ways(inside)


def _is_inside(node: Node, linked: Linked) -> bool:
    entry = linked.mapping.mapping.node(node.name)
    return entry is not None and not isinstance(entry.domain, External)


def _report_unreachable(rule: Rule, rules: Sequence[Rule], place: Place, report: Report) -> None:
    before = next((one for one in rules[: rules.index(rule)] if one.covers(rule)), None)
    why = "what it looks for goes nowhere between nodes inside, or earlier rules match it all"
    if before is not None:
        why = f"rule {before.number} ({before.action}) matches all that it would"
    report.warning(
        place,
        "unreachable-rule",
        f"rule {rule.number} ({rule.action}), which never matches: {why}",
        "a rule some message goes by",
        "move it up, correct what it matches, or remove it",
    )


def _report_tcp(way: Way, place: Place, report: Report) -> None:
    report.error(
        place,
        "deny-by-tcp",
        f"a deny that could be got around by TCP from {way.source} to {way.destination}",
        "deny for UDP only, or TCP that goes over rings",
        'write promote = "lazy" under [defaults]; or protocol = "udp" here, and keep TCP from the '
        "network by other means",
    )


def _report_shared(way: Way, place: Place, report: Report) -> None:
    report.error(
        place.at("action"),
        "network-by-message",
        f'"network" for some of the services at one endpoint ({way.source} to {way.destination})',
        "network for whole flows",
        "name the nodes only, or give the services endpoints of their own",
    )
