# SPDX-License-Identifier: Apache-2.0
"""What flows may take: shared memory per node, pages and event channels per guest, where what is
traced takes some, too.

Whoever asks for a flow pays for its memory: for a way back that a service has not asked for, the
node whose calls want it. In a Xen guest each end also takes of what the guest's kernel has, and a
relay of what our own domain's has; a ring that does not fit there is made smaller before it is
refused. What others cause in a guest leaves it half of that.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Final, Protocol

from ivc.controller.registry import Registry, Socket
from ivc.controller.rings import ring_bytes
from ivc.errors import IvcError
from ivc.network import limits
from ivc.network.limits import Share
from ivc.reasons import Reason

FLOWS_PER_NODE: Final = 1024
BYTES_PER_NODE: Final = 256 << 20
"""What the sockets of one node may have built for what they send; whoever asks pays."""

OTHERS_SHARE: Final = 2
"""One part in so many of a guest's pages and event channels is for what it asks for itself."""

PROCESSES_SHARE: Final = 2
"""One part in so many of the pages our domain may grant is for control connections alone."""


class Refused(IvcError):
    """A flow cannot be made; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits for the flows one node causes."""

    flows: int = FLOWS_PER_NODE
    bytes: int = BYTES_PER_NODE


class Wish(Protocol):
    """What a flow that is asked for says about itself."""

    @property
    def sender(self) -> Socket:
        """The sending socket."""

    @property
    def receiver(self) -> Socket:
        """The receiving socket."""

    @property
    def payer(self) -> int:
        """Number of the node that pays."""

    @property
    def asked(self) -> bool:
        """Whether its sender has asked for it, not others."""

    @property
    def order(self) -> int:
        """log2 of the bytes of records."""

    @property
    def relay(self) -> bool:
        """Whether it takes two rings."""


def flow_bytes(wish: Wish, order: int) -> int:
    """Bytes of shared memory of a flow, if its rings are of that order."""
    return ring_bytes(order) * (2 if wish.relay else 1)


class Quotas:
    """Who has taken what."""

    def __init__(self, registry: Registry, quota: Quota, pages: int | None = None) -> None:
        """`pages`: how many our own domain may grant (see `Platform.pages`)."""
        self._registry = registry
        self._quota = quota
        self._pages = pages
        self._relays = 0
        self._count: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()
        self._flows: defaultdict[int, Share] = defaultdict(Share)
        self._traced: Counter[int] = Counter()
        self._trace_pages: Counter[int] = Counter()

    def fit(self, wish: Wish) -> int:
        """The order the rings of a flow may have. Raises `Refused`."""
        order = self._fit_domains(wish)
        flows, size = self.usage(wish.payer)
        if (
            order is None
            or flows >= self._quota.flows
            or size + flow_bytes(wish, order) > self._quota.bytes
        ):
            raise Refused(Reason.QUOTA)
        return order

    def take(self, wish: Wish, order: int) -> None:
        """A flow has been made."""
        self._book(wish, order, 1)

    def give_back(self, wish: Wish, order: int) -> None:
        """A flow is gone."""
        self._book(wish, order, -1)

    def take_trace(self, host: int, pages: int) -> None:
        """A process of this guest is to grant so many pages for its trace, and gets one of ours."""
        self._traced[host] += 1
        self._trace_pages[host] += pages

    def give_back_trace(self, host: int, pages: int) -> None:
        """It is not traced any more."""
        self._traced[host] -= 1
        self._trace_pages[host] -= pages

    def usage(self, node: int) -> tuple[int, int]:
        """Flows a node has caused, and their bytes of memory."""
        return self._count[node], self._bytes[node]

    def of_guest(self, host: int) -> tuple[Share, Share] | None:
        """What a Xen guest has given, and what it has; None for a host without such limits."""
        has = self._registry.hosts.limits(host)
        if has is None:
            return None
        processes = self._registry.on(host)
        sockets = sum(len(process.sockets) for process in processes)
        used = limits.PROCESS * len(processes) + limits.SOCKET * sockets
        return used + self._flows[host] + Share(pages=self._trace_pages[host]), has

    def _fit_domains(self, wish: Wish) -> int | None:
        receiving = self._free(wish.receiver.host)
        if receiving is not None and not receiving.holds(limits.RECEIVER):
            return None
        sending = self._free(wish.sender.host)
        if sending is not None and wish.sender.host == wish.receiver.host:
            sending -= limits.RECEIVER
        if sending is not None and not wish.asked:
            sending -= self._own_share(wish.sender.host)
        order = wish.order if sending is None else limits.fitting(wish.order, [sending])
        return self._fit_here(order) if wish.relay and order is not None else order

    def _fit_here(self, order: int) -> int | None:
        """What our own domain has left for a relay, smaller if need be; None if nothing."""
        if self._pages is None:
            return order
        processes = limits.CONTROLLER_PROCESS.pages * len(self._registry.processes)
        processes += self._traced.total()
        free = self._pages - max(processes, self._pages // PROCESSES_SHARE) - self._relays
        orders = range(order, min(order, limits.ORDER_LEAST) - 1, -1)
        return next((one for one in orders if limits.relay(one).pages <= free), None)

    def _own_share(self, host: int) -> Share:
        """What of a guest's nobody else may take."""
        has = self._registry.hosts.limits(host)
        return has.part(OTHERS_SHARE) if has is not None else limits.NOTHING

    def _free(self, host: int) -> Share | None:
        known = self.of_guest(host)
        return known[1] - known[0] if known is not None else None

    def _book(self, wish: Wish, order: int, sign: int) -> None:
        self._count[wish.payer] += sign
        self._bytes[wish.payer] += sign * flow_bytes(wish, order)
        self._flows[wish.sender.host] += limits.sender(order) * sign
        self._flows[wish.receiver.host] += limits.RECEIVER * sign
        self._relays += limits.relay(order).pages * sign * wish.relay
