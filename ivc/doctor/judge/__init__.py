# SPDX-License-Identifier: Apache-2.0
"""Judging facts: pure, one file for each question."""
