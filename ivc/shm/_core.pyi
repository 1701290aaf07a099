# SPDX-License-Identifier: Apache-2.0
# The extension module made by ivc/shm/build_core.py. Only ivc.shm.ring and ivc.shm.bell use it;
# they are the typed side of it.
from typing import Any

ffi: Any
lib: Any
