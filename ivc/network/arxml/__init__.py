# SPDX-License-Identifier: Apache-2.0
"""AUTOSAR ARXML (release 4): Classic service instances and Adaptive manifests.

Read are ECUs and machines that offer or use SOME/IP services, their addresses, endpoints, service
discovery, events and eventgroups. Software components, data types and PDU layouts are not.
"""

from ivc.network.arxml.read import read_arxml, split_arxml

__all__ = ["read_arxml", "split_arxml"]
