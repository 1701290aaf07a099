# SPDX-License-Identifier: Apache-2.0
"""The IVC Controller: one process that plans, builds rings and joins wrappers by them.

Import order, top to bottom: commands -> service -> dispatch -> flows, wants -> registry, hosts
-> connection -> protocol. Everything runs in one thread around one selector.
"""
