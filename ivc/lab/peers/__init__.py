# SPDX-License-Identifier: Apache-2.0
"""Third-party SOME/IP programs, one process each. They know nothing of IVC."""
