# SPDX-License-Identifier: Apache-2.0
"""Where to serve something: an argument of commands, and who may see it there."""

import argparse
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

from ivc.errors import IvcError

Where: TypeAlias = tuple[IPv4Address | IPv6Address, int]


class Exposed(IvcError):
    """It would be seen from outside, and nobody said it may."""

    exit_code = 2


def address(text: str) -> Where:
    """ADDRESS:PORT."""
    host, colon, port = text.rpartition(":")
    try:
        if not colon or not 0 <= int(port) <= 65535:
            raise ValueError
        return ip_address(host.removeprefix("[").removesuffix("]")), int(port)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, expected an IP address and a port, such as 127.0.0.1:9464"
        ) from None


def refuse_exposed(where: Where, remedy: str) -> None:
    """Raises `Exposed` unless only this machine can reach it."""
    if not where[0].is_loopback:
        raise Exposed(
            f"--listen {where[0]}: found an address others can reach, expected one of this machine "
            f"alone, such as 127.0.0.1{remedy}"
        )
