# SPDX-License-Identifier: Apache-2.0
"""Facts in this network namespace: read and changed over netlink, rules through libnftables."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_interface
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from pyroute2.iproute import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ivc.ethernet.difference import Act, Change, Rules, State, Step
from ivc.ethernet.errors import EthernetError, Missing, NotPermitted
from ivc.ethernet.facts import Fact, Kind, mark_of, read_mark
from ivc.ethernet.nftables import Nftables
from ivc.ethernet.rules import TABLE, Table, canonical, commands

# <linux/if.h>, <linux/rtnetlink.h>, <linux/if_addr.h>
_IFF_UP: Final = 1
_RT_TABLE_MAIN: Final = 254
_RTN_UNICAST: Final = 1
_RTPROT_KERNEL: Final = 2
_SCOPE_UNIVERSE: Final = 0
_PERMANENT: Final = 0x80

_Doing = Callable[[Fact, bool], None]

_FORWARDING: Final = "/proc/sys/net/ipv4/conf/{}/forwarding"
_BRIDGE_NETFILTER: Final = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


class Kernel:
    """The network of the namespace this process is in, for the time of a `with` block."""

    def __init__(self) -> None:
        """Raises `Missing` without libnftables."""
        self._nftables = Nftables()
        self._netlink = IPRoute()

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._netlink.close()
        self._nftables.close()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep out others that would change this namespace by this program.

        The namespace itself bears the lock: it is the same for all who could be in the way.
        """
        namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(namespace, fcntl.LOCK_EX)
            yield
        finally:
            os.close(namespace)

    # ---- reading --------------------------------------------------------------------------

    def read(self) -> State:
        """All that is. Raises `NotPermitted`, `EthernetError`."""
        links = {link["index"]: link for link in self._netlink.get_links()}
        names = {index: str(link.get("ifname")) for index, link in links.items()}
        facts = {fact for link in links.values() for fact in _of_link(link, names)}
        bridges = {fact.link for fact in facts if fact.kind is Kind.BRIDGE}
        facts |= {Fact(Kind.ADDRESS, *found) for found in self._addresses(names, bridges)}
        facts |= {fact for route in self._routes() for fact in _of_route(route, names)}
        marks = frozenset(mark for link in links.values() for mark in _marks(link))
        return State(frozenset(names.values()), frozenset(facts), marks, self._table())

    def dropped(self) -> list[tuple[str, str, int]]:
        """Chain, comment and number of frames dropped, rule by rule."""
        rules = [thing["rule"] for thing in self._listed() if "rule" in thing]
        return [(rule["chain"], rule.get("comment", ""), _packets(rule)) for rule in rules]

    def remarks(self) -> list[str]:
        """What of this machine outside our reach may be in the way."""
        with suppress(OSError):
            if _BRIDGE_NETFILTER.read_text().strip() == "1":
                return [
                    "net.bridge.bridge-nf-call-iptables is 1: firewall rules of dom0's own "
                    "forwarding apply to what only crosses the bridge too; set it to 0 if "
                    "they are not meant to"
                ]
        return []

    def _addresses(self, names: dict[int, str], bridges: set[str]) -> Iterator[tuple[str, str]]:
        """Interface and address with its subnet; not those a bridge has given itself."""
        for found in self._netlink.get_addr():
            link = names.get(found["index"], "")
            flags = found.get("flags") or 0
            text = f"{found.get('local') or found.get('address')}/{found['prefixlen']}"
            chosen = ip_interface(text).version == 4 or flags & _PERMANENT or link not in bridges
            if found["scope"] == _SCOPE_UNIVERSE and chosen:
                yield link, text

    def _routes(self) -> Iterator[Any]:
        found = self._netlink.get_routes(family=2, table=_RT_TABLE_MAIN)
        return (route for route in found if route["proto"] != _RTPROT_KERNEL)

    def _table(self) -> Table:
        return canonical(self._listed())

    def _listed(self) -> list[dict[str, Any]]:
        tables = {"nftables": [{"list": {"tables": {"family": TABLE["family"]}}}]}
        names = [thing["table"]["name"] for thing in self._nftables.run(tables) if "table" in thing]
        if TABLE["name"] not in names:
            return []
        return self._nftables.run({"nftables": [{"list": {"table": TABLE}}]})

    # ---- changing -------------------------------------------------------------------------

    def take(self, step: Step) -> None:
        """Take a step, wholly or not at all. Raises `NotPermitted`, `Missing`, `EthernetError`."""
        try:
            if isinstance(step, Rules):
                self._nftables.run(commands(step.after))
            else:
                self._change(step)
        except NetlinkError as error:
            raise _refused(step, error.code) from None
        except OSError as error:
            raise _refused(step, error.errno or errno.EIO) from None

    def _change(self, change: Change) -> None:
        fact = change.fact
        if change.act is Act.FORGET:
            self._mark(fact, False)
        elif change.act is Act.UNDO:
            self._hold(fact, False)
            if fact.kind is not Kind.BRIDGE:  # whose marks went with it
                self._mark(fact, False)
        else:
            self._make(fact)

    def _make(self, fact: Fact) -> None:
        """Mark it first, that a step cut short can be found; a bridge has to be there before."""
        first: _Doing = self._mark
        then: _Doing = self._hold
        if fact.kind is Kind.BRIDGE:
            first, then = then, first
        first(fact, True)
        try:
            then(fact, True)
        except BaseException:
            first(fact, False)
            raise

    def _hold(self, fact: Fact, holds: bool) -> None:
        """Make a fact hold, or not."""
        link, netlink = fact.link, self._netlink
        verb = "add" if holds else "del"
        if fact.kind is Kind.BRIDGE and holds:
            netlink.link("add", ifname=link, kind="bridge")
        elif fact.kind is Kind.BRIDGE:
            netlink.link("del", index=self._index(link))
        elif fact.kind is Kind.FLOOD:
            snooping = int(not holds)
            netlink.link("set", index=self._index(link), kind="bridge", br_mcast_snooping=snooping)
        elif fact.kind is Kind.FORWARD:
            Path(_FORWARDING.format(link)).write_text(f"{int(holds)}\n")
        elif fact.kind is Kind.MEMBER:
            bridge = self._index(fact.value) if holds else 0
            netlink.link("set", index=self._index(link), master=bridge)
        elif fact.kind is Kind.UP:
            netlink.link("set", index=self._index(link), state="up" if holds else "down")
        elif fact.kind is Kind.ADDRESS:
            address, _, length = fact.value.partition("/")
            netlink.addr(verb, index=self._index(link), address=address, prefixlen=int(length))
        else:
            netlink.route(verb, dst=fact.value, oif=self._index(link), scope="link", proto="static")

    def _mark(self, fact: Fact, marked: bool) -> None:
        """Put the mark of a fact on its interface, or take it off; it may be so already."""
        (link,) = self._netlink.get_links(self._index(fact.link))
        names = [name for name in _altnames(link) if read_mark(name, fact.link) == fact]
        if marked and not names:
            self._netlink.link("property_add", index=link["index"], altname=mark_of(fact))
        for name in names if not marked else ():
            self._netlink.link("property_del", index=link["index"], altname=name)

    def _index(self, link: str) -> int:
        found = self._netlink.link_lookup(ifname=link)
        if not found:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return int(found[0])


def _of_link(link: Any, names: dict[int, str]) -> Iterator[Fact]:
    name = names[link["index"]]
    if link.get(("linkinfo", "kind")) == "bridge":
        yield Fact(Kind.BRIDGE, name)
        if link.get(("linkinfo", "data", "br_mcast_snooping")) == 0:
            yield Fact(Kind.FLOOD, name)
    if (link.get(("af_spec", "af_inet")) or {}).get("forwarding"):
        yield Fact(Kind.FORWARD, name)
    if link.get("master"):
        yield Fact(Kind.MEMBER, name, names.get(link.get("master"), "?"))
    if link["flags"] & _IFF_UP:
        yield Fact(Kind.UP, name)


def _of_route(route: Any, names: dict[int, str]) -> Iterator[Fact]:
    link, destination = names.get(route.get("oif")), route.get("dst")
    plain = route["type"] == _RTN_UNICAST and route.get("gateway") is None
    if link is not None and destination is not None and plain:
        yield Fact(Kind.ROUTE, link, f"{destination}/{route['dst_len']}")


def _altnames(link: Any) -> list[str]:
    properties = link.get("prop_list")
    return list(properties.get_attrs("IFLA_ALT_IFNAME")) if properties else []


def _marks(link: Any) -> Iterator[Fact]:
    for name in _altnames(link):
        mark = read_mark(name, str(link.get("ifname")))
        if mark is not None:
            yield mark


def _packets(rule: dict[str, Any]) -> int:
    return sum(int(e["counter"]["packets"]) for e in rule["expr"] if "counter" in e)


def _refused(step: Step, code: int) -> EthernetError:
    if code in {errno.EPERM, errno.EACCES}:
        return NotPermitted(f"{step}: not permitted; run it as root (CAP_NET_ADMIN)")
    if code == errno.EOPNOTSUPP:
        return Missing(
            f"{step}: not supported; the kernel needs bridges (CONFIG_BRIDGE) and alternative "
            "names of interfaces (Linux 5.5)"
        )
    return EthernetError(f"{step}: {os.strerror(code)}")
