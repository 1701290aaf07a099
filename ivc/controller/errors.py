# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in the controller."""

from typing import Any

from ivc.errors import IvcError


class ControllerError(IvcError):
    """The controller cannot start or go on; the message says why and what to do."""


class AlreadyRunning(ControllerError):
    """Another live controller holds the run directory."""


class NoController(ControllerError):
    """No controller answers in the run directory."""

    exit_code = 5


class OrderFailed(ControllerError):
    """A running controller has not done (yet) what it was told; `answer` is what it said."""

    def __init__(self, message: str, answer: dict[str, Any]) -> None:
        super().__init__(message)
        self.answer = answer


class NotPermitted(ControllerError):
    """This user may not; the message says what would."""

    exit_code = 77


class Violation(IvcError):
    """A process broke the protocol or claimed what is not its own; it is disconnected."""


class MessageError(Violation):
    """A packet is not a message of core/protocol.h."""
