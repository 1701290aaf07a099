# SPDX-License-Identifier: Apache-2.0
"""A laboratory: hosts, a wire to count on, third-party peers, and the demo."""
