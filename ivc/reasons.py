# SPDX-License-Identifier: Apache-2.0
"""Why a socket, or one destination of it, is on the path it is on (core/protocol.h)."""

from enum import IntEnum


class Reason(IntEnum):
    """Stable numbers, shared with the wrapper. There is no OTHER."""

    NONE = 0
    NOT_UDP = 1
    NOT_BOUND = 2
    NO_NODE = 3
    NO_TRAFFIC = 4
    NOT_PLANNED = 5
    EXTERNAL = 6
    SAME_NODE = 7
    NO_RECEIVER = 8
    AMBIGUOUS = 9
    PENDING = 10
    NO_CONTROLLER = 11
    QUOTA = 12
    OPTION = 13
    TOO_LARGE = 14
    POISONED = 15
    PEER_GONE = 16
    FORKED = 17
    RULE = 18
    DENIED = 19
    RESOURCES = 20
    WILDCARD = 21
    REPLANNED = 22
    MULTICAST_PARTLY = 23
    NESTED = 24
    SHORT_LIVED = 25
    FOREIGN_IO = 26
    NOT_CONFIRMED = 27
    QUIESCED = 29
    HANDED_ON = 30

    @property
    def text(self) -> str:
        """One line for people."""
        return _TEXTS[self]

    @property
    def is_fallback(self) -> bool:
        """Whether the network is used that was not meant to be: neither the plan, nor the mapping,
        nor the moment says so."""
        return self in _FALLBACKS


_FALLBACKS = {
    Reason.NO_RECEIVER,
    Reason.AMBIGUOUS,
    Reason.NO_CONTROLLER,
    Reason.QUOTA,
    Reason.OPTION,
    Reason.TOO_LARGE,
    Reason.POISONED,
    Reason.FORKED,
    Reason.RESOURCES,
    Reason.WILDCARD,
    Reason.MULTICAST_PARTLY,
    Reason.NESTED,
    Reason.FOREIGN_IO,
    Reason.HANDED_ON,
}

_TEXTS = {
    Reason.NONE: "on rings",
    Reason.NOT_UDP: "TCP, and the mapping says: promote = never",
    Reason.NOT_BOUND: "the socket has no local address yet",
    Reason.NO_NODE: "the local address belongs to no planned node",
    Reason.NO_TRAFFIC: "nothing has been sent or received so far",
    Reason.NOT_PLANNED: "neither end is a configured SOME/IP endpoint",
    Reason.EXTERNAL: "the peer is outside the hypervisor",
    Reason.SAME_NODE: "the peer is on the same node: loopback",
    Reason.NO_RECEIVER: "nobody with the wrapper is bound at the destination",
    Reason.AMBIGUOUS: "several sockets could receive it",
    Reason.PENDING: "the flow is being set up",
    Reason.NO_CONTROLLER: "the controller cannot be reached",
    Reason.QUOTA: "the node has used up its share of memory or flows",
    Reason.OPTION: "a socket option is set that rings do not honour",
    Reason.TOO_LARGE: "the datagram is larger than half the ring",
    Reason.POISONED: "the peer broke the ring's rules",
    Reason.PEER_GONE: "the peer's process or socket has ended",
    Reason.FORKED: "the socket was inherited over fork",
    Reason.RULE: "the mapping says: network",
    Reason.DENIED: "the mapping says: deny",
    Reason.RESOURCES: "out of memory or descriptors",
    Reason.WILDCARD: "bound to 0.0.0.0 on a host with several nodes",
    Reason.REPLANNED: "the plan has changed",
    Reason.MULTICAST_PARTLY: "some members of the group are reached by the kernel only",
    Reason.NESTED: "its epoll set is itself polled, or in another set",
    Reason.SHORT_LIVED: "the connection is too young to be worth rings",
    Reason.FOREIGN_IO: "bytes of the connection went past the wrapper",
    Reason.NOT_CONFIRMED: "an end of the connection is not established, or not any more",
    Reason.QUIESCED: "the domain of one end is quiesced",
    Reason.HANDED_ON: "the socket was given to another process, or to another program by exec",
}
