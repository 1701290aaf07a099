# SPDX-License-Identifier: Apache-2.0
"""What can go wrong while dom0's network is set up."""

from ivc.errors import IvcError


class EthernetError(IvcError):
    """The kernel refused a step; the message says which, why, and what is left."""


class NotPermitted(EthernetError):
    """This user may not change the network."""

    exit_code = 77


class Missing(EthernetError):
    """A library, or a part of the kernel, that this machine should have."""

    exit_code = 69
