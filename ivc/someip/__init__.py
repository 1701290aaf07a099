# SPDX-License-Identifier: Apache-2.0
"""SOME/IP on the wire, without any I/O: bytes to values and back."""

from ivc.someip.errors import BuildError, CodecError, ParseError
from ivc.someip.header import TP_FLAG, Header, MessageType, ReturnCode, peek
from ivc.someip.message import Message, TpHeader, parse_datagram
from ivc.someip.options import (
    AddressOption,
    ConfigurationOption,
    EndpointOption,
    LoadBalancingOption,
    MacGroupcastOption,
    MulticastOption,
    Option,
    ProtectionOption,
    Protocol,
    SdEndpointOption,
    SelectiveOption,
    UnknownOption,
)
from ivc.someip.sd import (
    FOREVER,
    STOP,
    Entry,
    EntryType,
    EventgroupEntry,
    Run,
    SdMessage,
    ServiceEntry,
    UnknownEntry,
)

__all__ = [
    "FOREVER",
    "STOP",
    "TP_FLAG",
    "AddressOption",
    "BuildError",
    "CodecError",
    "ConfigurationOption",
    "EndpointOption",
    "Entry",
    "EntryType",
    "EventgroupEntry",
    "Header",
    "LoadBalancingOption",
    "MacGroupcastOption",
    "Message",
    "MessageType",
    "MulticastOption",
    "Option",
    "ParseError",
    "ProtectionOption",
    "Protocol",
    "ReturnCode",
    "Run",
    "SdEndpointOption",
    "SdMessage",
    "SelectiveOption",
    "ServiceEntry",
    "TpHeader",
    "UnknownEntry",
    "UnknownOption",
    "parse_datagram",
    "peek",
]
