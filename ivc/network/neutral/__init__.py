# SPDX-License-Identifier: Apache-2.0
"""The network file: the neutral model as TOML or JSON, written by `ivc import` and read back.

One file holds all nodes and services, whatever they were read from. Its shape is that of
`ivc.network.model`, so reader, writer and JSON Schema all follow from the types there: see
`shape`.
"""

from ivc.network.neutral.read import is_network, read_network
from ivc.network.neutral.schema import network_schema
from ivc.network.neutral.write import network_document, write_network

__all__ = ["is_network", "network_document", "network_schema", "read_network", "write_network"]
