# SPDX-License-Identifier: Apache-2.0
"""vsomeip JSON, read as vsomeip 3 reads it; what it passes over in silence is a finding.

The key lists are those of COVESA vsomeip 3.1 to 3.7 (`configuration_impl.cpp`,
`policy_manager_impl.cpp`, `vsomeipConfiguration.md`).
"""

from ivc.network.vsomeip.node import read_node

__all__ = ["read_node"]
