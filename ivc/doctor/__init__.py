# SPDX-License-Identifier: Apache-2.0
"""What keeps IVC from working on this machine.

`gather` looks and judges nothing, `judge` judges facts and looks at nothing (pure).
"""
