# SPDX-License-Identifier: Apache-2.0
"""The neutral model every network description is read into.

Plain frozen values: comparable, hashable, no I/O. Nothing here knows where it was read from.
Times are milliseconds and sizes bytes of payload where nothing else is said. Defaults are those of
vsomeip 3; a value nobody wrote down is its default, or None where there is none.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address
from uuid import UUID


class Protocol(StrEnum):
    """Transport of an endpoint."""

    UDP = "udp"
    TCP = "tcp"


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One end of a conversation: address, port (host order) and transport."""

    address: IPv4Address
    port: int
    protocol: Protocol = Protocol.UDP

    def __str__(self) -> str:
        return f"{self.address}:{self.port}/{self.protocol}"


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """Ports `first` to `last`, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}" if self.first != self.last else str(self.first)


@dataclass(frozen=True, slots=True, order=True)
class ServiceRef:
    """A service instance by its ids; `instance` 0xFFFF means all of them."""

    service: int
    instance: int

    def __str__(self) -> str:
        return f"0x{self.service:04x}.0x{self.instance:04x}"


# ---- services ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """An event or field notifier (event id 0x8001 to 0xFFFE by convention).

    `is_reliable` says that it travels by TCP. `cycle` is the time between two notifications, 0 for
    none; a change resets it if `change_resets_cycle` says so, and is notified at all if
    `update_on_change` does.
    """

    event: int
    is_field: bool = False
    is_reliable: bool = False
    cycle: int = 0
    change_resets_cycle: bool = False
    update_on_change: bool = True


@dataclass(frozen=True, slots=True)
class Eventgroup:
    """Events subscribed to together.

    `multicast` is where they are sent once there are `threshold` subscribers; a threshold of 0
    means never.
    """

    eventgroup: int
    events: tuple[int, ...] = ()
    multicast: Endpoint | None = None
    threshold: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Segmentation:
    """SOME/IP-TP of one method or event: messages too long for a datagram are cut up.

    `max_segment` is bytes of payload in a segment, a multiple of 16; `separation` is the time
    between two segments in microseconds.
    """

    method: int
    max_segment: int = 1392
    separation: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Debounce:
    """How long messages of one method may wait for company in their datagram (nPDU).

    `debounce` is the least time between two sendings, `retention` the longest a message waits.
    """

    method: int
    debounce: int
    retention: int


@dataclass(frozen=True, slots=True)
class ServiceInstance:
    """A service instance offered by `node`.

    `node` is None where the endpoints lie at an address that belongs to no node. Versions are
    None where the description does not say. Requests are what clients send (methods), responses
    what the service sends (answers and events).
    """

    service: int
    instance: int
    node: str | None
    endpoints: tuple[Endpoint, ...] = ()
    major: int | None = None
    minor: int | None = None
    events: tuple[Event, ...] = ()
    eventgroups: tuple[Eventgroup, ...] = ()
    protocol: str = "someip"  # anything else: the payload is not SOME/IP
    magic_cookies: bool = False  # on the TCP endpoint
    tp_requests: tuple[Segmentation, ...] = ()
    tp_responses: tuple[Segmentation, ...] = ()
    debounce_requests: tuple[Debounce, ...] = ()
    debounce_responses: tuple[Debounce, ...] = ()

    def __str__(self) -> str:
        return f"0x{self.service:04x}.0x{self.instance:04x}"


# ---- what a node says of itself ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class TtlFactor:
    """Entries of a service live `factor` times their TTL."""

    service: int
    instance: int
    factor: int


@dataclass(frozen=True, slots=True)
class SdTiming:
    """Phases of service discovery (initial wait, repetition, main) and its limits.

    `ttl` is in seconds, 0xFFFFFF until the next reboot. `stop_offer_watchdog` and
    `offers_watchdog` are vsomeip's own supervision.
    """

    initial_delay_min: int = 0
    initial_delay_max: int = 3000
    repetitions_base_delay: int = 10
    repetitions_max: int = 3
    ttl: int = 0xFFFFFF
    cyclic_offer_delay: int = 1000
    request_response_delay: int = 2000
    offer_debounce_time: int = 500
    find_debounce_time: int = 500
    find_initial_debounce_reps: int = 0
    find_initial_debounce_time: int = 200
    max_remote_subscribers: int = 3
    stop_offer_watchdog_time: int = 2000
    offers_watchdog: int = 4000
    wait_route_netlink_notification: bool = True
    initial_state: str | None = None  # "suspended" or "resumed"
    ttl_factor_offers: tuple[TtlFactor, ...] = ()
    ttl_factor_subscriptions: tuple[TtlFactor, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceDiscovery:
    """Service discovery of a node; `group` is its multicast group and port."""

    enabled: bool
    group: Endpoint
    timing: SdTiming = field(default_factory=SdTiming)

    @property
    def port(self) -> int:
        """The port SD uses, for the group and for unicast alike."""
        return self.group.port


@dataclass(frozen=True, slots=True, order=True)
class Application:
    """A program of the node; `id` is its client id, None if it is given one at run time."""

    name: str
    id: int | None = None


@dataclass(frozen=True, slots=True)
class GuestPorts:
    """Ports the programs of one user may use to reach the routing host; None is any user."""

    uid: int | None
    gid: int | None
    ranges: tuple[PortRange, ...]


@dataclass(frozen=True, slots=True)
class Routing:
    """The program that owns the node's sockets.

    With `address`, the node's other programs reach it by TCP there (and from `guest_address` and
    `guest_ports`), else by a Unix socket.
    """

    host: str
    uid: int | None = None
    gid: int | None = None
    address: IPv4Address | None = None
    port: int = 31490
    guest_address: IPv4Address | None = None
    guest_ports: tuple[GuestPorts, ...] = ()


@dataclass(frozen=True, slots=True)
class Client:
    """Where the node's clients send from.

    For the service instance, or for any service on `*_remote` ports where the ids are None:
    one of `*_ports`, or of the range `*_client`. Nothing given: whatever the kernel chooses.
    """

    service: int | None = None
    instance: int | None = None
    udp_ports: tuple[int, ...] = ()
    tcp_ports: tuple[int, ...] = ()
    udp_remote: PortRange | None = None
    tcp_remote: PortRange | None = None
    udp_client: PortRange | None = None
    tcp_client: PortRange | None = None


@dataclass(frozen=True, slots=True)
class NpduTimings:
    """How long the node holds messages back to share datagrams, where no `Debounce` says else.

    Each round trip waits for these times on both sides: 10 ms with the defaults.
    """

    debounce_request: int = 2
    debounce_response: int = 2
    retention_request: int = 5
    retention_response: int = 5


@dataclass(frozen=True, slots=True, order=True)
class PortPayload:
    """The largest payload at one endpoint, UDP and TCP alike."""

    address: IPv4Address
    port: int
    size: int


@dataclass(frozen=True, slots=True)
class PayloadLimits:
    """The largest payloads; None is vsomeip's own limit (1400 by UDP, none by TCP)."""

    local: int | None = None
    tcp: int | None = None
    udp: int | None = None
    ports: tuple[PortPayload, ...] = ()


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A peer that is spoken to on these ports only if a secure channel to it is up.

    Vsomeip takes default ranges where a transport has none; they are not filled in here.
    """

    address: IPv4Address
    paths: tuple[str, ...] = ()  # the channel is up while one of these files exists
    udp_optional: tuple[PortRange, ...] = ()
    udp_secure: tuple[PortRange, ...] = ()
    tcp_optional: tuple[PortRange, ...] = ()
    tcp_secure: tuple[PortRange, ...] = ()


@dataclass(frozen=True, slots=True)
class Security:
    """Vsomeip's rules for programs of one node; they do not touch traffic between nodes.

    `enforced` is False where violations are only written to the log. `policies` is how many
    there are; what they say is in the node's `kept`.
    """

    enforced: bool = False
    remote_clients: bool = True
    policies: int = 0


@dataclass(frozen=True, slots=True)
class E2eProtection:
    """End-to-end protection of one message.

    `variant` is "protector", "checker" or both; `profile` such as "CRC8", "P04", "P07".
    `parameters` are the profile's, as written, sorted by name.
    """

    service: int
    event: int
    variant: str
    profile: str
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class InternalServices:
    """Services never looked for outside the node: a range of ids, both ends included."""

    first: ServiceRef
    last: ServiceRef


@dataclass(frozen=True, slots=True)
class Node:
    """One SOME/IP participant. `sd` is None where no configuration file describes the node.

    `device` binds its sockets to a network interface. `network` names its local sockets: two
    nodes of one host need two. `partitions` are services whose clients use sockets of their own.
    `kept` are sections IVC has no use for, as JSON text by name, sorted.
    """

    name: str
    address: IPv4Address
    netmask: IPv4Address
    sd: ServiceDiscovery | None
    device: str | None = None
    network: str = "vsomeip"
    routing: Routing | None = None
    applications: tuple[Application, ...] = ()
    clients: tuple[Client, ...] = ()
    npdu: NpduTimings = field(default_factory=NpduTimings)
    payload: PayloadLimits = field(default_factory=PayloadLimits)
    partitions: tuple[tuple[ServiceRef, ...], ...] = ()
    acceptances: tuple[Acceptance, ...] = ()
    secure_services: tuple[ServiceRef, ...] = ()
    internal_services: tuple[InternalServices, ...] = ()
    security: Security | None = None
    e2e_enabled: bool = False
    e2e: tuple[E2eProtection, ...] = ()
    kept: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    """Everything the configuration files say, sorted: nodes by name, services by id."""

    nodes: tuple[Node, ...]
    services: tuple[ServiceInstance, ...]

    @property
    def strangers(self) -> tuple[ServiceInstance, ...]:
        """Services at addresses that belong to no node; they stay on the network."""
        return tuple(service for service in self.services if service.node is None)


@dataclass(frozen=True, slots=True)
class LocalHost:
    """A Linux host: a named network namespace, or (None) the controller's own."""

    netns: str | None

    def __str__(self) -> str:
        return f"netns:{self.netns}" if self.netns else "local"


@dataclass(frozen=True, slots=True)
class XenDomain:
    """A Xen guest, by exactly one of name, uuid and domain id."""

    name: str | None = None
    uuid: UUID | None = None
    id: int | None = None

    def __str__(self) -> str:
        return f"vm:{self.name or self.uuid or self.id}"


@dataclass(frozen=True, slots=True)
class External:
    """A node outside the hypervisor, on Ethernet."""

    def __str__(self) -> str:
        return "external"


Domain = LocalHost | XenDomain | External
