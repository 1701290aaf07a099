# SPDX-License-Identifier: Apache-2.0
"""The C core for Python: ``ffi`` and ``lib``, made by ``ivc.shm.build_core``."""

from pathlib import Path
from typing import Any

from ivc.shm import _core

ffi: Any = _core.ffi
lib: Any = ffi.dlopen(str(Path(__file__).parent / "libivccore.so"))
