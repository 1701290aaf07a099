# SPDX-License-Identifier: Apache-2.0
"""The machine, and what programs started from here inherit of this process."""

import errno
import os
import resource
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import psutil

from ivc.doctor.facts import Device, Machine, Process, Xen
from ivc.platform import MissingInterface
from ivc.platform.xenstore import LibXenStore

_DEVICES: Final = tuple(f"/dev/xen/{name}" for name in ("gntalloc", "gntdev", "evtchn", "xenbus"))
_HYPERVISOR: Final = Path("/sys/hypervisor/type")
_CAPABILITIES: Final = Path("/proc/xen/capabilities")
_FEATURES: Final = Path("/sys/hypervisor/properties/features")
_GRANTS: Final = Path("/sys/module/xen_gntalloc/parameters/limit")
_DOM0_BIT: Final = 11  # XENFEAT_dom0 of Xen's public/features.h

_PROBE_S: Final = 10.0
_PROBE: Final = """
import os, select, socket, sys
def unix(): socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
for name, call in (("eventfd2", lambda: os.eventfd(0)),
                   ("memfd_create", lambda: os.memfd_create("x")),
                   ("socket(AF_UNIX, SOCK_SEQPACKET)", unix),
                   ("epoll_create1", select.epoll),
                   ("poll", lambda: select.poll().poll(0))):
    print(name, flush=True)
    try: call()
    except OSError: print("!", flush=True)
print("end")
"""
"""What the wrapper asks the kernel for, in a child: a filter may kill who asks."""


def gather_machine() -> Machine:
    """What it has."""
    xen = _xen()
    return Machine(
        os.cpu_count() or 1,
        psutil.virtual_memory().available,
        os.sysconf("SC_PAGESIZE"),
        xen,
        tuple(map(_device, _DEVICES)),
        _number(_GRANTS),
        _served() if xen is Xen.GUEST else None,
    )


def gather_process() -> Process:
    """What is inherited."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    filtered = _filtered()
    return Process(
        os.geteuid(),
        None if soft == resource.RLIM_INFINITY else soft,
        len(os.sched_getaffinity(0)),
        filtered,
        _blocked() if filtered else (),
        os.environ.get("IVC_SPIN_US"),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    with suppress(ValueError):
        return int(_text(path))
    return None


def _xen() -> Xen:
    """xenfs says who is dom0; where it is not mounted the hypervisor's features do."""
    if _text(_HYPERVISOR) != "xen":
        return Xen.NONE
    features = _text(_FEATURES)
    with suppress(ValueError):
        if int(features, 16) >> _DOM0_BIT & 1:
            return Xen.DOM0
    return Xen.DOM0 if "control_d" in _text(_CAPABILITIES) else Xen.GUEST


def _served() -> bool | None:
    """Whether dom0 has written there what a wrapper looks for first (docs/xen.md)."""
    try:
        store = LibXenStore()
    except MissingInterface:
        return None
    with closing(store):
        return store.read("ivc/controller") is not None


def _device(path: str) -> Device:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        there = error.errno not in {errno.ENOENT, errno.ENOTDIR}
        return Device(path, there, os.strerror(error.errno or 0))
    return Device(path)


def _filtered() -> bool:
    lines = _text(Path("/proc/self/status")).splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return fields.get("Seccomp", "0").strip() != "0"


def _blocked() -> tuple[str, ...]:
    """The calls that failed; the one at which the child was killed is the last."""
    command = [sys.executable, "-c", _PROBE]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_PROBE_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ("fork, or execve",)
    lines = done.stdout.split("\n")[:-1]
    failed = [lines[at - 1] for at, line in enumerate(lines) if line == "!" and at]
    return (*failed, *(lines[-1:] if lines and lines[-1] not in {"end", "!"} else ()))
