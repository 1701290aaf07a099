# SPDX-License-Identifier: Apache-2.0
"""Words an order of a fault may have: of the command line, and of the controller that does it."""

from typing import Final

from ivc.message_types import MessageType

SEED: Final = 1
"""What a fault draws from if nobody says."""

TYPES: Final = {kind.name: kind for kind in MessageType if "ACK" not in kind.name}
WHATS: Final = ("byte", "bit", "length", "session")
