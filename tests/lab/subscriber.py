# SPDX-License-Identifier: Apache-2.0
"""A client that answers the end of an offer with a StopSubscribe, as clients do.

    subscriber.py ADDRESS

Prints "offered" when the peers' service is offered, "answered" when it has answered.
"""

from __future__ import annotations

import socket
import sys
from ipaddress import IPv4Address

from ivc.lab.peers import common
from ivc.someip.header import SD_METHOD, SD_SERVICE, Header, MessageType
from ivc.someip.message import Message
from ivc.someip.options import EndpointOption, Protocol
from ivc.someip.sd import STOP, EntryType, EventgroupEntry, Run, SdMessage, ServiceEntry


def stop_subscribe(address: str) -> bytes:
    """What a client sends that no longer wants the peers' eventgroup."""
    entry = EventgroupEntry(
        type=EntryType.SUBSCRIBE,
        service_id=common.SERVICE,
        instance_id=common.INSTANCE,
        major_version=common.MAJOR,
        ttl=STOP,
        eventgroup_id=common.EVENTGROUP,
        run_1=Run(0, 1),
    )
    endpoint = EndpointOption(IPv4Address(address), Protocol.UDP, common.CLIENT_PORT)
    header = Header(SD_SERVICE, SD_METHOD, session_id=1, message_type=MessageType.NOTIFICATION)
    return Message(header, SdMessage((entry,), (endpoint,)).build()).build()


def await_offer(discovery: socket.socket, *, stopped: bool) -> tuple[str, int]:
    """Wait until the peers' service is offered, or no longer so; returns who says it."""
    while True:
        data, sender = discovery.recvfrom(2048)
        sd, _ = SdMessage.parse(Message.parse(data)[0].payload)
        for entry in sd.entries:
            if isinstance(entry, ServiceEntry) and (entry.ttl == STOP) == stopped:
                return str(sender[0]), int(sender[1])


def main(address: str) -> None:
    discovery = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    discovery.bind(("", common.SD_PORT))
    group = socket.inet_aton(common.SD_GROUP) + socket.inet_aton(address)
    discovery.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    await_offer(discovery, stopped=False)
    print("offered", flush=True)
    discovery.sendto(stop_subscribe(address), await_offer(discovery, stopped=True))
    print("answered", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
