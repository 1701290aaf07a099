# SPDX-License-Identifier: Apache-2.0
"""Message types of SOME/IP and their names.

Apart from the codec, for what only names them: `construct` is long to import.
"""

from enum import IntEnum


class MessageType(IntEnum):
    """Message types without the TP flag (Open SOME/IP 684).

    The ACK forms are reserved and in no use; they are here to be named when seen.
    """

    REQUEST = 0x00
    REQUEST_NO_RETURN = 0x01
    NOTIFICATION = 0x02
    REQUEST_ACK = 0x40
    REQUEST_NO_RETURN_ACK = 0x41
    NOTIFICATION_ACK = 0x42
    RESPONSE = 0x80
    ERROR = 0x81
    RESPONSE_ACK = 0xC0
    ERROR_ACK = 0xC1


def type_name(value: int | None) -> str | None:
    """The name, or the number of one that has none; None of what is no message."""
    if value is None:
        return None
    return MessageType(value).name if value in set(MessageType) else f"0x{value:02x}"
