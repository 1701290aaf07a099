# SPDX-License-Identifier: Apache-2.0
"""The ways a message can go from guest to guest, and what each takes."""

from __future__ import annotations

import enum
from collections.abc import Mapping

WRAPPER = "/opt/ivc/build/libivcsock.so"


class Way(enum.StrEnum):
    """How a run's messages travel; the names are those of `build.py xen --json`."""

    VIF = "vif"
    """netfront, dom0's bridge, netfront: no wrapper at all"""
    DIRECT_SPIN = "direct-spin"
    """shared memory, receivers look for a millisecond before they sleep"""
    DIRECT = "direct"
    """shared memory, receivers sleep after a first look and an event channel wakes them"""
    RELAY = "relay"
    """shared memory, through the controller in dom0"""

    @property
    def controller(self) -> str | None:
        """The `--path` of the controller it needs, None: it needs none."""
        return {"vif": None, "relay": "relay"}.get(self.value, "direct")

    @property
    def environment(self) -> Mapping[str, str]:
        """What a program is started with to go this way."""
        if self is Way.VIF:
            return {}
        spin = {Way.DIRECT_SPIN: {"IVC_SPIN_US": "1000"}, Way.DIRECT: {"IVC_SPIN_US": "0"}}
        return {"LD_PRELOAD": WRAPPER} | spin.get(self, {})
