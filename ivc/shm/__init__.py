# SPDX-License-Identifier: Apache-2.0
"""Shared memory: the layout of rings and pages, and the rings themselves."""
