# SPDX-License-Identifier: Apache-2.0
"""Which platform a mapping is for."""

from collections.abc import Iterable

from ivc.network import Domain, XenDomain
from ivc.platform import Platform
from ivc.platform.linux import LinuxPlatform
from ivc.platform.xen import XenPlatform


def platform_for(domains: Iterable[Domain]) -> Platform:
    """Xen if there is any of its guests, else plain Linux. Raises `MissingInterface`."""
    if any(isinstance(domain, XenDomain) for domain in domains):
        return XenPlatform()
    return LinuxPlatform()
