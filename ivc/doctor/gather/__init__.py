# SPDX-License-Identifier: Apache-2.0
"""Looking at the machine: one file for each kind of fact. Changes nothing."""
