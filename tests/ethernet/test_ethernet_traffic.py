# SPDX-License-Identifier: Apache-2.0
"""What passes between inside and outside, what does not, and that IVC is the reason.

Each test of something that must not pass shows first that it would: eth1 put into the bridge by
hand, as one does without IVC.
"""

import itertools
import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address

import pytest
from ethernet_field import ETHERNET, Field
from six_ways import GROUP

HOSTS = ("hmi", "adas", "tcu")
PRIORITY = b"\x81\x00\x00\x00"  # a VLAN tag that names none: kernels take it off, again and again
SERVICE = b"\x88\xa8\x00\x00"
ROUTED = ETHERNET + 'address = "10.77.0.254/24"\n'


def by_hand(dom0: Field) -> None:
    """eth1 in the bridge, and nothing else."""
    dom0.ip("dom0", "link set eth1 master xenbr0 up")


# ---- what passes ------------------------------------------------------------


def test_everybody_reaches_everybody_by_udp_and_tcp(dom0: Field) -> None:
    dom0.done("apply")
    for source, destination in itertools.permutations(HOSTS, 2):
        assert dom0.talks(source, destination)
        with dom0.socket(destination, socket.SOCK_STREAM) as server:
            server.listen()
            with dom0.socket(source, socket.SOCK_STREAM) as client:
                client.connect(server.getsockname())
                accepted, _ = server.accept()
                with accepted:
                    accepted.sendall(b"there")
                    assert client.recv(16) == b"there"


def members(dom0: Field, stack: ExitStack) -> dict[str, socket.socket]:
    """A socket of each host that is in the group of service discovery."""
    made = {}
    for host in HOSTS:
        with dom0.inside(host):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.bind((GROUP, 30490))
        own = socket.inet_aton(dom0.addresses[host])
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + own)
        made[host] = sock
    return made


def heard(sock: socket.socket, seconds: float) -> list[tuple[str, bytes]]:
    """Sender and payload of each datagram within a time."""
    found, end = [], time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            payload, (address, _) = sock.recvfrom(2048)
        except TimeoutError:
            break
        found.append((address, payload))
    return found


def test_group_is_heard_by_everybody_once(dom0: Field) -> None:
    dom0.done("apply")
    assert dom0.talks("hmi", "adas") and dom0.talks("hmi", "tcu")  # ports open a moment later
    with ExitStack() as stack:
        listening = members(dom0, stack)
        for host in HOSTS:
            with dom0.socket(host) as sender:
                for number in range(20):
                    sender.sendto(b"%d" % number, (GROUP, 30490))
        sent = [b"%d" % number for number in range(20)]
        for host, sock in listening.items():
            found = heard(sock, 1)
            for other in HOSTS:
                if other != host:
                    came = [payload for who, payload in found if who == dom0.addresses[other]]
                    assert came == sent, (host, other)


# ---- what stays inside, and what stays outside ------------------------------


@contextmanager
def wire(dom0: Field, host: str = "tcu") -> Iterator[socket.socket]:
    """All frames that arrive at a host's interface; it can send any too."""
    with dom0.inside(host):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    with raw:
        raw.bind(("eth0", 3))
        yield raw


def seen(raw: socket.socket, needle: bytes, seconds: float = 0.5) -> bool:
    """Whether a frame with `needle` in it arrives within a time."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        raw.settimeout(left)
        try:
            frame, (_, _, kind, *_) = raw.recvfrom(2048)
        except TimeoutError:
            return False
        if needle in frame and kind != socket.PACKET_OUTGOING:
            return True
    return False


def mac(dom0: Field, host: str) -> bytes:
    (link,) = json.loads(dom0.run(host, "ip", "-j", "link", "show", "eth0"))
    return bytes.fromhex(link["address"].replace(":", ""))


def datagram(source: str, destination: str, payload: bytes) -> bytes:
    """An IPv4 packet with a UDP datagram to port 30490, checksums left out where they may be."""
    udp = struct.pack("!4H", 30490, 30490, 8 + len(payload), 0) + payload
    ends = IPv4Address(source).packed + IPv4Address(destination).packed
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + ends
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    check = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return head[:10] + struct.pack("!H", check) + head[12:] + udp


def answer(sender: bytes, claimed: str, target: bytes, asked: str) -> bytes:
    """An ARP reply: `claimed` is at `sender`."""
    ends = sender + IPv4Address(claimed).packed + target + IPv4Address(asked).packed
    return target + sender + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + ends


@pytest.mark.parametrize(
    "tag", [b"", PRIORITY, PRIORITY * 2, SERVICE + PRIORITY, PRIORITY + SERVICE]
)
def test_node_inside_cannot_be_played_from_outside(dom0: Field, tag: bytes) -> None:
    with wire(dom0) as outside, dom0.socket("adas", port=30490) as adas:

        def forged() -> list[tuple[str, bytes]]:
            packet = datagram(dom0.addresses["hmi"], dom0.addresses["adas"], b"forged")
            outside.send(mac(dom0, "adas") + mac(dom0, "tcu") + tag + b"\x08\x00" + packet)
            return heard(adas, 0.5)

        by_hand(dom0)
        assert forged() == [(dom0.addresses["hmi"], b"forged")]
        dom0.done("apply")
        assert forged() == []
        rule = "nested VLAN tags" if len(tag) > len(PRIORITY) else "node hmi"
        assert f"dropped 1      outside-in: {rule}" in dom0.ivc("show").stdout
    assert dom0.talks("tcu", "adas")


def test_node_inside_cannot_be_answered_for_from_outside(dom0: Field) -> None:
    def neighbour() -> str:
        return dom0.run("adas", "ip", "neighbour", "show", dom0.addresses["hmi"])

    outer = mac(dom0, "tcu").hex(":")
    forged = answer(
        mac(dom0, "tcu"), dom0.addresses["hmi"], mac(dom0, "adas"), dom0.addresses["adas"]
    )
    with wire(dom0) as outside:
        by_hand(dom0)
        assert dom0.talks("adas", "hmi")
        time.sleep(1.1)  # a neighbour is not believed twice in a second
        outside.send(forged)
        time.sleep(0.3)
        assert outer in neighbour()
        dom0.ip("adas", "neighbour flush all")
        dom0.done("apply")
        assert dom0.talks("adas", "hmi")
        time.sleep(1.1)
        outside.send(forged)
        time.sleep(0.3)
        assert outer not in neighbour()


def test_payload_between_guests_stays_inside_where_the_bridge_floods(dom0: Field) -> None:
    """The bridge sends to all ports while it does not know where a guest's MAC address is."""
    by_hand(dom0)
    for vif in ("vif1.0", "vif2.0"):
        dom0.ip("dom0", f"link set {vif} type bridge_slave learning off fdb_flush")
    with wire(dom0) as outside:
        assert dom0.talks("hmi", "adas") and seen(outside, b"hello")
        dom0.done("apply")
        assert dom0.talks("hmi", "adas") and not seen(outside, b"hello")
    assert "both ends inside" in dom0.ivc("show").stdout


def test_payload_between_guests_cannot_be_drawn_outside(dom0: Field) -> None:
    """Whoever sends with a guest's MAC address outside makes the bridge look for it there."""
    by_hand(dom0)

    def drawn() -> bool:
        guest = mac(dom0, "adas")
        with wire(dom0) as outside, dom0.socket("hmi") as sender:
            outside.send(b"\xff" * 6 + guest + b"\x88\xb5" + bytes(46))
            time.sleep(0.1)
            sender.sendto(b"secret", (dom0.addresses["adas"], 30490))
            return seen(outside, b"secret")

    assert dom0.talks("hmi", "adas")
    assert drawn()
    dom0.done("apply")
    assert dom0.talks("adas", "hmi")
    assert not drawn()


# ---- IGMP snooping ----------------------------------------------------------


def query(dom0: Field) -> bytes:
    """A general query of IGMPv2, to be answered within a tenth of a second."""
    body = struct.pack("!BBH4x", 0x11, 1, ~0x1101 & 0xFFFF)
    ends = IPv4Address(dom0.addresses["tcu"]).packed + IPv4Address("224.0.0.1").packed
    head = struct.pack("!BBHHHBBH", 0x46, 0, 24 + len(body), 0, 0, 1, 2, 0) + ends
    head += bytes([0x94, 4, 0, 0])  # router alert
    total = sum(struct.unpack("!12H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:]
    return bytes.fromhex("01005e000001") + mac(dom0, "tcu") + b"\x08\x00" + head + body


@pytest.mark.parametrize(
    ("querier", "source", "silent"),
    [("dom0", "hmi", "tcu"), ("tcu", "hmi", "adas"), ("tcu", "tcu", "adas")],
    ids=["ecu-outside", "guest-from-guest", "guest-from-outside"],
)
def test_who_never_says_that_he_is_in_a_group_hears_it_all_the_same(
    dom0: Field, querier: str, source: str, silent: str
) -> None:
    """Many an ECU lets its filter through what it wants and knows no IGMP."""
    by_hand(dom0)

    def hears() -> bool:
        if querier == "tcu":
            with wire(dom0) as outside:
                outside.send(query(dom0))
        time.sleep(1)
        with wire(dom0, silent) as raw, dom0.socket(source) as sender:
            sender.sendto(b"offer", (GROUP, 30490))
            return seen(raw, b"offer")

    if querier == "dom0":
        for words in ("mcast_query_response_interval 10", "mcast_querier 1"):
            dom0.ip("dom0", f"link set xenbr0 type bridge {words}")
    with ExitStack() as stack:
        members(dom0, stack)[silent].close()
        assert not hears()
        dom0.done("apply")
        assert hears()


# ---- routing ----------------------------------------------------------------


@pytest.fixture
def routed(dom0: Field) -> Field:
    """tcu is in another subnet; it and the guests have dom0 as their gateway."""
    dom0.ip("tcu", f"address del {dom0.addresses['tcu']}/24 dev eth0")
    dom0.addresses["tcu"], dom0.ethernet = "10.78.0.9", ROUTED
    dom0.ip("tcu", "address add 10.78.0.9/24 dev eth0")
    dom0.ip("tcu", "route add 10.77.0.254 dev eth0")
    dom0.ip("tcu", "route add default via 10.77.0.254")
    for guest in ("hmi", "adas"):
        dom0.ip(guest, "route add default via 10.77.0.254")
    return dom0


def test_dom0_routes_between_subnets_while_it_is_told_to(routed: Field) -> None:
    routed.done("apply")
    assert routed.talks("hmi", "tcu") and routed.talks("tcu", "adas")
    with routed.socket("adas", socket.SOCK_STREAM) as server:
        server.listen()
        with routed.socket("tcu", socket.SOCK_STREAM) as client:
            client.connect(server.getsockname())
    routed.done("remove")
    assert not routed.talks("tcu", "adas", patience=0.5)


def test_dom0_routes_nobody_into_its_other_networks(routed: Field) -> None:
    """Over the same route that leads to the guests."""
    routed.done("apply")
    routed.ip("dom0", "link add eth0 type veth peer name office")
    routed.ip("dom0", "address add 192.168.7.1/24 dev eth0")
    for end in ("eth0", "office"):
        routed.ip("dom0", f"link set {end} up")
    routed.ip("dom0", "neighbour add 192.168.7.2 lladdr 02:00:00:00:00:02 dev eth0")
    with routed.inside("dom0"):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    with raw, routed.socket("tcu") as sender:
        raw.bind(("office", 3))

        def gets_there() -> bool:
            sender.sendto(b"further", ("192.168.7.2", 9))
            return seen(raw, b"further")

        assert not gets_there()
        assert "dropped 1      outside-in: no way on" in routed.ivc("show").stdout
        routed.nft("flush table bridge ivc")
        assert gets_there()


def test_node_in_dom0_sends_to_a_group_without_saying_by_which_interface(dom0: Field) -> None:
    dom0.in_dom0, dom0.ethernet = "hmi", ETHERNET + 'address = "10.77.0.1/24"\n'
    dom0.ip("dom0", "link set vif1.0 down")
    before = dom0.snapshot()
    dom0.done("apply")
    with dom0.inside("dom0"):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender, ExitStack() as stack:
        listening = members(dom0, stack)
        assert dom0.talks("adas", "tcu")
        sender.sendto(b"offer", (GROUP, 30490))
        for host in ("adas", "tcu"):
            assert heard(listening[host], 0.5) == [("10.77.0.1", b"offer")]
    dom0.done("remove")
    assert dom0.snapshot() == before
