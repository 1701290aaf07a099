# SPDX-License-Identifier: Apache-2.0
"""Make ``ivc.shm._core``: core/*.c as a shared library, and cffi's view of it (ABI mode).

The declarations are taken from the headers themselves, so there is no second copy
that could drift; every size and offset cffi derives from them is compiled into the
library as a static assertion. ABI mode needs a C compiler, but not Python's headers.

build.py runs it: ``python -m ivc.shm.build_core COMPILER FLAGS``.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "core"
BUILD = ROOT / "build" / "cffi"

HEADERS = (
    "layout.h",
    "pages.h",
    "protocol.h",
    "ring.h",
    "doorbell.h",
    "platform_xen.h",
    "kinds.h",
    "faults.h",
    "trace.h",
    "stream_state.h",
    "relay.h",
    "capture.h",
)
SOURCES = (
    "ring.c",
    "platform_linux.c",
    "platform_xen.c",
    "kinds.c",
    "faults.c",
    "trace.c",
    "answer.c",
    "stream_relay.c",
    "relay.c",
    "capture.c",
)
LIBRARY = "libivccore.so"

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_NUMBER = re.compile(r"^#define (IVC_\w+) (\S.*)$", re.MULTILINE)
_LITERAL = re.compile(r"\b(0x[0-9a-fA-F]+|\d+)u?\b")
_TYPE = re.compile(r"^(?:struct|enum) \w+ \{.*?^\};", re.MULTILINE | re.DOTALL)
_FUNCTION = re.compile(r"^[a-z][\w *]*?\bivc_\w+\([^;{}]*\);", re.MULTILINE)

_SYSTEM = """
struct iovec { void *iov_base; size_t iov_len; };
void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset);
int munmap(void *addr, size_t length);
"""

# libxenstore, where there is one (ivc/platform/xenstore.py): Xen tools/include/xenstore.h.
# Declared here, since at run time there is no parser for C. A handle is void *, and a
# struct xs_permissions two numbers: domain and enum xs_perm_type.
_XENSTORE = """
void *xs_open(unsigned long flags);
void xs_close(void *h);
void *xs_read(void *h, uint32_t t, const char *path, unsigned int *len);
bool xs_write(void *h, uint32_t t, const char *path, const void *data, unsigned int len);
char **xs_directory(void *h, uint32_t t, const char *path, unsigned int *num);
bool xs_rm(void *h, uint32_t t, const char *path);
bool xs_set_permissions(void *h, uint32_t t, const char *path, unsigned int *perms,
                        unsigned int num_perms);
bool xs_watch(void *h, const char *path, const char *token);
bool xs_unwatch(void *h, const char *path, const char *token);
char **xs_check_watch(void *h);
bool xs_is_domain_introduced(void *h, unsigned int domid);
int xs_fileno(void *h);
void free(void *ptr);
"""


def declarations(header: str) -> str:
    """Return the cffi declarations in the text of one of our headers.

    It understands the plain style those headers keep to: numeric ``#define``,
    ``struct`` and ``enum`` definitions and prototypes that start a line.
    """
    text = _COMMENT.sub("", header)
    numbers = [
        f"#define {name} {literal[1]}"
        for name, value in _NUMBER.findall(text)
        if (literal := _LITERAL.search(value))
    ]
    types = [found.replace("_Atomic ", "") for found in _TYPE.findall(text)]
    return "\n".join([*numbers, *types, *_FUNCTION.findall(text)])


def builder() -> FFI:
    """Return the configured cffi builder."""
    ffi = FFI()
    ffi.cdef(_SYSTEM)
    ffi.cdef(_XENSTORE)
    for name in HEADERS:
        ffi.cdef(declarations((CORE / name).read_text(encoding="utf-8")))
    ffi.set_source("ivc.shm._core", None)
    return ffi


def assertions(ffi: FFI) -> str:
    """Return C that compiles only if cffi sees every struct as the compiler does."""
    lines = [*(f'#include "{name}"' for name in HEADERS), "#include <sys/uio.h>"]
    for struct in (f"struct {name}" for name in ffi.list_types()[1]):
        if ffi.typeof(struct).fields is None:
            continue  # only ever pointed at
        lines.append(f'static_assert(sizeof({struct}) == {ffi.sizeof(struct)}, "{struct}");')
        lines += [
            f'static_assert(offsetof({struct}, {field}) == {info.offset}, "{struct}.{field}");'
            for field, info in ffi.typeof(struct).fields or ()
        ]
    return "\n".join(lines) + "\n"


def _compile(ffi: FFI, target: Path, compiler: Sequence[str]) -> None:
    check = BUILD / "assertions.c"
    check.write_text(assertions(ffi), encoding="utf-8")
    command = [
        *compiler,
        "-fPIC",
        "-shared",
        "-pthread",
        f"-I{CORE}",
        "-o",
        str(target),
        str(check),
    ]
    command += [str(CORE / name) for name in SOURCES]
    subprocess.run(command, check=True)


def build(compiler: Sequence[str]) -> Path:
    """Compile, put library and module beside this file and return the library's path."""
    BUILD.mkdir(parents=True, exist_ok=True)
    ffi = builder()
    folder = Path(__file__).parent
    target = folder / LIBRARY
    # A new file, not new bytes in the old one: a running process has it mapped.
    partial = target.with_suffix(f".{os.getpid()}")
    _compile(ffi, partial, compiler)
    ffi.emit_python_code(str(folder / "_core.py"))
    partial.replace(target)
    return target


if __name__ == "__main__":
    sys.stdout.write(f"{build(sys.argv[1:])}\n")
