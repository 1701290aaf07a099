# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a ring."""

from ivc.errors import IvcError


class RingError(IvcError):
    """Base of all errors of a ring."""


class AttachError(RingError):
    """The two regions are not the two ends of the flow they were said to be."""


class RingPoisoned(RingError):
    """The peer broke the ring's rules; this end is of no use any more."""


class RingFull(RingError):
    """No room now; nothing was written."""


class TooLarge(RingError):
    """The payload is larger than half the ring; it will never fit."""
