# SPDX-License-Identifier: Apache-2.0
"""IVC: virtual ECUs talk SOME/IP through shared memory."""

__version__ = "0.1.0"
