# SPDX-License-Identifier: Apache-2.0
"""What is judged: facts, and, if files were given, what should be."""

from collections.abc import Iterator
from dataclasses import dataclass

from ivc.doctor.facts import Facts, Host, Xen
from ivc.network.model import Domain, LocalHost, Network, Node, XenDomain
from ivc.plan import Plan


@dataclass(frozen=True, slots=True)
class Place:
    """A node, and the host it is on."""

    node: Node
    host: Host

    @property
    def where(self) -> str:
        """In words."""
        return f"node {self.node.name}, {self.host}"


@dataclass(frozen=True, slots=True)
class Case:
    """`focus` is the one node to look at, None for all."""

    facts: Facts
    network: Network | None = None
    plan: Plan | None = None
    focus: str | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All of the configuration."""
        return self.network.nodes if self.network is not None else ()

    @property
    def inside(self) -> frozenset[str]:
        """Names of the nodes rings can reach."""
        planned = self.plan.nodes if self.plan is not None else ()
        return frozenset(node.name for node in planned if node.inside)

    def domain(self, name: str) -> Domain | None:
        """Where a node runs."""
        planned = self.plan.nodes if self.plan is not None else ()
        return next((node.domain for node in planned if node.name == name), None)

    def places(self) -> Iterator[Place]:
        """Nodes whose host can be looked at, in focus or not."""
        for node in self.nodes:
            local, netns = local_host(
                self.domain(node.name), node.name == self.focus, self.facts.machine.xen
            )
            host = self.facts.host(netns) if local else None
            if host is not None:
                yield Place(node, host)

    def in_focus(self) -> Iterator[Place]:
        """Those asked for."""
        return (place for place in self.places() if self.focus in (None, place.node.name))


def local_host(domain: Domain | None, is_focus: bool, xen: Xen) -> tuple[bool, str | None]:
    """Whether a node's host can be looked at from here, and its namespace's name.

    In a guest, the node that is asked for is the guest's own.
    """
    if isinstance(domain, LocalHost):
        return True, domain.netns
    return isinstance(domain, XenDomain) and is_focus and xen is Xen.GUEST, None
