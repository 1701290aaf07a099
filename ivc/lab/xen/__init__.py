# SPDX-License-Identifier: Apache-2.0
"""A real Xen to try IVC on: hypervisor, dom0 and two domUs inside QEMU, no KVM needed."""
