# SPDX-License-Identifier: Apache-2.0
# The module made by ivc/shm/build_core.py. Only ivc.shm.library imports it.
from typing import Any

ffi: Any
