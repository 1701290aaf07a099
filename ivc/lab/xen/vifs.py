# SPDX-License-Identifier: Apache-2.0
"""What crosses a guest's network interface, from the counters of dom0's end of it."""

from __future__ import annotations

from ivc.lab.xen.lab import DomU, XenLab

_COUNTERS = ("rx_bytes", "rx_packets", "tx_bytes", "tx_packets")
# What netback counts of a UDP datagram besides its payload: IP and UDP header,
# towards the guest the Ethernet header too. ARP is as long: it counts nothing.
_RX_HEADERS = 20 + 8
_TX_HEADERS = 14 + _RX_HEADERS


def payload_bytes(lab: XenLab, guest: DomU) -> int:
    """UDP payload that has crossed its interface on the data bridge so far, both ways."""
    folder = f"/sys/class/net/{guest.vif()}/statistics"
    files = [f"{folder}/{name}" for name in _COUNTERS]
    counts = map(int, lab.dom0.run(["cat", *files]).stdout.split())
    rx_bytes, rx_packets, tx_bytes, tx_packets = counts
    return rx_bytes - _RX_HEADERS * rx_packets + tx_bytes - _TX_HEADERS * tx_packets
