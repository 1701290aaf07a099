# SPDX-License-Identifier: Apache-2.0
"""What external nodes need in dom0: bridge, interface, routes, and nftables of its own.

`wanted` (pure) says what shall be, `Kernel` what is, `difference` (pure) the steps between them,
`carry_out` takes them: all or none.
"""

from ivc.ethernet.difference import State, Step, difference
from ivc.ethernet.facts import Fact, Kind
from ivc.ethernet.wanted import Wanted, wanted

__all__ = ["Fact", "Kind", "State", "Step", "Wanted", "difference", "wanted"]
