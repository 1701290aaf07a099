# SPDX-License-Identifier: Apache-2.0
"""What a picture shows is what the plan decides."""

from pictures import Picture
from test_plan import PLAN

from ivc.network import Action, Path, Rule
from ivc.observe.topology import topology


def test_nodes_are_in_their_domains_and_others_outside(picture: Picture) -> None:
    seen = picture(("a", "b"), outside=("tcu",), domain="big")
    assert [(box.title, [one.name for one in box.members]) for box in seen.boxes] == [
        ("vm:big", ["a", "b"])
    ]
    assert [one.name for one in seen.outside] == ["tcu"]


def test_addresses_of_no_node_are_outside_with_what_they_offer() -> None:
    stranger = topology(PLAN).outside[-1]
    assert (stranger.name, stranger.address) == ("(no node)", "10.77.0.99")
    assert stranger.services == ("0x1237.0x0001",)


def test_nodes_have_their_services(picture: Picture) -> None:
    assert [one.services for one in picture(("a", "b")).inside] == [
        ("0x1001.0x0001",),
        ("0x1002.0x0001",),
    ]


def test_a_pair_has_one_link_for_each_path_with_what_takes_it(picture: Picture) -> None:
    seen = picture(("a", "b"), Rule(1, Action.DENY, service=0x1001))
    assert [(link.path, link.ways) for link in seen.links] == [
        (Path.DIRECT, ("service discovery", "0x1002.0x0001 udp")),
        (Path.DENIED, ("0x1001.0x0001 udp (DENIED)",)),
    ]


def test_what_takes_a_path_one_way_only_says_which(picture: Picture) -> None:
    seen = picture(("a", "b"), Rule(1, Action.RELAY, source="b", destination="a"))
    told = {link.path: link.ways[0] for link in seen.links}
    assert told == {
        Path.DIRECT: "service discovery, a to b",
        Path.RELAY: "service discovery, b to a",
    }


def test_tcp_that_is_not_carried_is_on_the_network_with_its_reason() -> None:
    (link, *_) = topology(PLAN).by_path(Path.NETWORK)
    assert link.ways == ("0x1234.0x0001 tcp (NOT_UDP)",)


def test_every_two_nodes_of_many_are_linked(picture: Picture) -> None:
    names = tuple(f"ecu-{number:02d}" for number in range(20))
    assert len(picture(names, path=Path.RELAY).by_path(Path.RELAY)) == 20 * 19 // 2
