# SPDX-License-Identifier: Apache-2.0
"""The IVC Controller: one process that plans, builds rings and joins wrappers by them.

Import order, top to bottom: commands -> service -> dispatch, status -> wants -> flows,
receivers -> data_communication -> registry, hosts, rings -> protocol; ivc.platform below: nothing
here knows sockets, memfds or eventfds. Everything runs in one thread around one selector.
"""
