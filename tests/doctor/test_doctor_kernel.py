# SPDX-License-Identifier: Apache-2.0
"""What the doctor says of rules, compared with what the kernel does by them."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from doctor_case import sound
from doctor_field import Field, sound_field

from ivc.doctor.gather.network import gather_hosts
from ivc.doctor.netfilter import Ruleset
from ivc.doctor.packets import Packet, received
from ivc.netns import inside

SD = 30490

BODIES = [
    "udp dport 30490 drop",
    "udp dport != 30490 drop",
    "udp dport 30491 drop",
    "udp sport 30490 drop",
    "udp sport { 1-1000, 30490 } udp dport 30490 drop",
    "tcp dport 30490 drop",
    "ip saddr 10.77.0.2 accept\ndrop",
    "ip saddr 10.77.0.3 accept\ndrop",
    "ip saddr != 10.77.0.0/24 drop",
    "ip saddr 10.77.0.0/24 drop",
    "ip daddr 10.77.0.1-10.77.0.9 reject",
    "ip daddr { 10.77.0.3-10.77.0.9, 10.78.0.0/16 } reject with icmp type host-prohibited",
    "meta l4proto { tcp, udp } drop",
    "meta nfproto ipv6 drop",
    "meta protocol ip drop",
    "ip protocol udp drop",
    "ip6 saddr ::1 drop",
    "ip6 saddr != ::1 drop",
    "tcp dport != 1 drop",
    'iifname "eth*" drop',
    "iifname != eth0 drop",
    "iif lo drop",
    "iif eth0 drop",
    "th dport 30000-31000 drop",
    "ct state established accept\ndrop",
    "ct state new drop",
    "ct state invalid drop",
    "ct state { established, related } drop",
    "udp dport vmap { 53 : accept, 30490 : drop }",
    "udp dport vmap { 53 : drop, 30490 : accept }\ndrop",
    "udp dport vmap { 30490 : jump d }",
    "policy drop\nudp dport 30490 accept",
    "policy drop\nudp dport 53 accept",
    "jump d",
    "jump e\naccept",
    "goto e\ndrop",
    "udp dport 53 goto e\ndrop",
    "udp dport @s drop",
    "udp dport != @s drop",
    "udp dport 30490 return\ndrop",
    'counter\nlog prefix "x"\nmeta mark set 1',
]

UNSURE = [
    "ip saddr & 255.0.255.0 == 10.0.0.0 drop",
    "ip saddr . udp dport { 10.77.0.2 . 30490 } drop",
    "limit rate 1/hour burst 1 packets drop",
    "udp length > 9 drop",
]
"""Not understood, so nothing is certain."""

TABLE = """
table inet f
delete table inet f
table inet f {{
    set s {{ type inet_service; flags interval; elements = {{ 53, 30000-30499 }}; }}
    chain d {{ udp dport 30490 drop; }}
    chain e {{ udp dport 30490 return; drop; }}
    chain c {{
        type filter hook input priority 0
        {}
    }}
}}
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Field, list[socket.socket]]]:
    """The field, a socket of adas, and one of hmi."""
    folder: Path = tmp_path_factory.mktemp("kernel")
    with sound_field(folder) as field:
        made = [_socket(field, "adas", "10.77.0.2"), _socket(field, "hmi", "10.77.0.1")]
        yield field, made
        for one in made:
            one.close()


def _socket(field: Field, host: str, address: str) -> socket.socket:
    with inside(field.netns(host)):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, SD))
    made.settimeout(0.05)
    return made


def _arrives(sender: socket.socket, receiver: socket.socket) -> bool:
    """Once it is known where hmi is, a datagram is there when it was sent."""
    for _ in range(2):  # the first may tell of what was rejected before
        with suppress(OSError):
            sender.sendto(b"offer", ("10.77.0.1", SD))
    try:
        receiver.recv(16)
    except TimeoutError:
        return False
    receiver.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            receiver.recv(16)
    receiver.settimeout(0.05)
    return True


def _packet() -> Packet:
    """n2 is adas, n1 hmi: what discovery sends to hmi itself."""
    case = sound()
    place = next(place for place in case.places() if place.node.name == "n1")
    found = received(case, place)
    return next(one for one in found if not one.destination.address.is_multicast)


@pytest.mark.parametrize("body", BODIES + UNSURE)
def test_what_is_certain_is_what_the_kernel_does(
    hosts: tuple[Field, list[socket.socket]], body: str
) -> None:
    field, (sender, receiver) = hosts
    name = field.netns("hmi")
    command = ["ip", "netns", "exec", name, "nft", "-f", "-"]
    subprocess.run(command, input=TABLE.format(body), text=True, check=True)
    rules = gather_hosts((name,), ())[0].rules
    assert rules is not None
    drops = list(Ruleset(rules).drops(_packet(), ("input",), ("inet",)))
    arrives = _arrives(sender, receiver)
    if not drops:
        assert arrives
    if any(one.certain for one in drops):
        assert not arrives
    assert [one.certain for one in drops] == [body not in UNSURE] * len(drops)
