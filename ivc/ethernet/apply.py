# SPDX-License-Identifier: Apache-2.0
"""Take steps: all, or none."""

from collections.abc import Sequence
from typing import Protocol

from ivc.ethernet.difference import Step, inverse
from ivc.ethernet.errors import EthernetError


class Takes(Protocol):
    """Whatever can take a step: `Kernel`."""

    def take(self, step: Step) -> None:
        """Take it wholly or not at all; raises `EthernetError`."""


def carry_out(kernel: Takes, steps: Sequence[Step]) -> None:
    """Take all steps; if one fails, those before it are taken back. Raises `EthernetError`."""
    done: list[Step] = []
    try:
        for step in steps:
            kernel.take(step)
            done.append(step)
    except EthernetError as error:
        left = _take_back(kernel, done)
        raise type(error)(f"{error}; {left or 'nothing was changed'}") from None
    except BaseException:  # Ctrl-C above all
        _take_back(kernel, done)
        raise


def _take_back(kernel: Takes, done: Sequence[Step]) -> str:
    """Take steps back, latest first, as far as possible; what is left, in words."""
    left = []
    for step in reversed(done):
        back = inverse(step)
        try:
            if back is not None:
                kernel.take(back)
        except EthernetError as error:
            left.append(str(error))
    return f"not taken back ({'; '.join(left)}): ivc ethernet remove tries again" if left else ""
