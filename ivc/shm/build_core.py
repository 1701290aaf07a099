# SPDX-License-Identifier: Apache-2.0
"""Compile core/*.c into the extension module ``ivc.shm._core`` (cffi, API mode).

The declarations are taken from the headers themselves, so there is no second copy
that could drift; the C compiler checks every offset cffi derives from them.

Run as ``python -m ivc.shm.build_core`` from the root of the repository.
"""

import re
import shutil
import sys
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "core"
BUILD = ROOT / "build" / "cffi"

HEADERS = ("layout.h", "pages.h", "protocol.h", "ring.h", "doorbell.h")
SOURCES = ("ring.c", "platform_linux.c")

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_NUMBER = re.compile(r"^#define (IVC_\w+) \S", re.MULTILINE)
_TYPE = re.compile(r"^(?:struct|enum) \w+ \{.*?^\};", re.MULTILINE | re.DOTALL)
_FUNCTION = re.compile(r"^[a-z][\w ]*?\bivc_\w+\([^;{}]*\);", re.MULTILINE)

_SYSTEM = """
struct iovec { void *iov_base; size_t iov_len; ...; };
"""


def declarations(header: str) -> str:
    """Return the cffi declarations in the text of one of our headers.

    It understands the plain style those headers keep to: numeric ``#define``,
    ``struct`` and ``enum`` definitions and prototypes that start a line.
    """
    text = _COMMENT.sub("", header)
    numbers = [f"#define {name} ..." for name in _NUMBER.findall(text)]
    types = [found.replace("_Atomic ", "") for found in _TYPE.findall(text)]
    return "\n".join([*numbers, *types, *_FUNCTION.findall(text)])


def builder() -> FFI:
    """Return the configured cffi builder."""
    ffi = FFI()
    ffi.cdef(_SYSTEM)
    for name in HEADERS:
        ffi.cdef(declarations((CORE / name).read_text(encoding="utf-8")))
    ffi.set_source(
        "ivc.shm._core",
        "\n".join(f'#include "{name}"' for name in HEADERS),
        sources=[str(CORE / name) for name in SOURCES],
        include_dirs=[str(CORE)],
        extra_compile_args=["-std=c11", "-O2"],
    )
    return ffi


def build() -> Path:
    """Compile, put the module beside this file and return its path."""
    BUILD.mkdir(parents=True, exist_ok=True)
    made = Path(builder().compile(tmpdir=str(BUILD)))
    target = Path(__file__).parent / made.name
    # A new file, not new bytes in the old one: a running process has it mapped.
    partial = target.with_suffix(".partial")
    shutil.copy2(made, partial)
    partial.replace(target)
    return target


if __name__ == "__main__":
    sys.stdout.write(f"{build()}\n")
