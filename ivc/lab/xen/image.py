# SPDX-License-Identifier: Apache-2.0
"""The images every boot starts from: hypervisor, kernel, initramfs and one root disk.

All of it comes from Debian 12's own packages. One root disk serves dom0 and the
domUs: each lays a tmpfs over it (see guest/initramfs.sh), so that it is never
written and never has to be made again.
"""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ivc.lab.hosts import LabError
from ivc.lab.xen.cache import cache_folder, cached, saying

GUEST_FILES = Path(__file__).resolve().parent / "guest"

_SUITE = "bookworm"
# One mirror, or none: then debootstrap knows where Debian is.
_MIRROR = os.environ.get("IVC_DEBIAN_MIRROR", "").split()
_PACKAGES = (
    "busybox-static",
    "iproute2",
    "kmod",
    "nftables",
    "procps",
    "python3",
    "systemd",
    "xen-utils-4.17",
    "xenstore-utils",
)
# Unpacked, never installed: their scripts would want a boot loader.
_UNPACKED = ("linux-image-amd64", "xen-hypervisor-4.17-amd64")
# What it takes to reach a root disk, in dom0 (virtio) and in a domU (blkfront).
_EARLY_MODULES = ("virtio_pci", "virtio_blk", "xen-blkfront", "crc32c_generic", "ext4", "overlay")
_ROOT_SIZE = "1200M"
_USELESS = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists")
_TOOLS = {"debootstrap": "debootstrap", "mke2fs": "e2fsprogs", "unshare": "util-linux"}


@dataclass(frozen=True, slots=True)
class Images:
    """What QEMU is given. `xen` is the bare ELF: multiboot does not take the gzipped one."""

    folder: Path
    xen: str = "xen"
    kernel: str = "vmlinuz"
    initramfs: str = "initramfs"
    root: str = "root.img"


def images() -> Images:
    """The images, from the cache or made now (minutes, needs root). Raises LabError."""
    recipe = Path(__file__).read_text() + (GUEST_FILES / "initramfs.sh").read_text()
    return Images(cached("images", recipe, _make))


def require_tools(tools: dict[str, str]) -> None:
    """Name every missing program together with its package. Raises LabError."""
    places = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    packages = {package for name, package in tools.items() if not shutil.which(name, path=places)}
    if packages:
        names = " ".join(sorted(packages))
        raise LabError(f"missing on this machine: {names}\nGet them with: apt-get install {names}")


def run_tool(*command: str | Path, stdin: str | None = None) -> str:
    """Run a step of the build; its output. It dies with us. Raises LabError with its words."""
    line = ["setpriv", "--pdeathsig", "KILL", *map(str, command)]
    # In a session of its own: Ctrl-C reaches us alone, and we end all of it.
    process = subprocess.Popen(
        line,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "LC_ALL": "C"},
    )
    try:
        output, _ = process.communicate(stdin)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode != 0:
        tail = "\n".join(output.splitlines()[-30:])
        raise LabError(f"failed ({process.returncode}): {' '.join(line[3:])}\n{tail}")
    return output


def make_disk(folder: Path, disk: Path, size: str) -> None:
    """An ext4 image of `size` (as mke2fs takes it) with the folder's content."""
    run_tool("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", folder, disk, size)


def _make(folder: Path) -> None:
    require_tools(_TOOLS)
    if os.geteuid() != 0:
        raise LabError("the images are not made yet, and making them needs root (once)")
    root = folder / "root"
    _bootstrap(root)
    _unpack(root, folder)
    with saying("initramfs and root disk"):
        _make_initramfs(root, folder / "initramfs")
        for name in ("vmlinuz", "initramfs"):  # for xl in dom0
            shutil.copy(folder / name, root / "boot")
        for useless in _USELESS:
            shutil.rmtree(root / useless, ignore_errors=True)
        make_disk(root, folder / "root.img", _ROOT_SIZE)
        shutil.rmtree(root)


def _bootstrap(root: Path) -> None:
    packages = cache_folder() / "packages"
    packages.mkdir(exist_ok=True)
    options = ["--variant=minbase", f"--include={','.join(_PACKAGES)}", f"--cache-dir={packages}"]
    with saying(f"Debian {_SUITE} root file system (some minutes, once)"):
        _contained("debootstrap", *options, _SUITE, root, *_MIRROR)


def _unpack(root: Path, folder: Path) -> None:
    """Kernel and hypervisor, chosen by the new root's own apt, whatever the host is."""
    command = ["apt-get", "install", "-qq", "--download-only", "--no-install-recommends"]
    with saying("kernel and hypervisor"):
        _contained("chroot", root, *command, *_UNPACKED)
    archives = root / "var" / "cache" / "apt" / "archives"
    unpacked = folder / "unpacked"
    for pattern in ("linux-image-6*.deb", "xen-hypervisor-4*.deb"):
        for package in archives.glob(pattern):
            run_tool("dpkg-deb", "-x", package, unpacked)
    shutil.rmtree(archives)
    (kernel,) = (unpacked / "boot").glob("vmlinuz-*")
    (hypervisor,) = (unpacked / "boot").glob("xen-*amd64.gz")
    version = kernel.name.removeprefix("vmlinuz-")
    (folder / "vmlinuz").write_bytes(kernel.read_bytes())
    (folder / "xen").write_bytes(gzip.decompress(hypervisor.read_bytes()))
    shutil.move(unpacked / "lib" / "modules" / version, root / "lib" / "modules" / version)
    run_tool("chroot", root, "depmod", version)
    shutil.rmtree(unpacked)


def _contained(*command: str | Path) -> None:
    """Run a step whose mounts and processes are all gone when it ends, however it ends."""
    run_tool("unshare", "--mount", "--pid", "--fork", "--kill-child", *command)


def _make_initramfs(root: Path, target: Path) -> None:
    tree = target.with_suffix(".tree")
    for name in ("bin", "dev", "proc", "sys", "modules", "disk", "layer", "over", "root"):
        (tree / name).mkdir(parents=True)
    busybox = root / "bin" / "busybox"
    shutil.copy(busybox, tree / "bin")
    shutil.copy(GUEST_FILES / "initramfs.sh", tree / "init")
    (tree / "init").chmod(0o755)
    for number, module in enumerate(_early_modules(root)):
        shutil.copy(module, tree / "modules" / f"{number:02}-{module.name}")
    paths = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    script = 'cd "$1" && "$2" cpio -o -H newc >"$3"'
    run_tool("sh", "-c", script, "sh", tree, busybox, target, stdin=f"{paths}\n")
    target.write_bytes(gzip.compress(target.read_bytes(), compresslevel=6))
    shutil.rmtree(tree)


def _early_modules(root: Path) -> Sequence[Path]:
    """The modules' files in an order that satisfies their dependencies."""
    (version,) = (path.name for path in (root / "lib" / "modules").iterdir())
    found: dict[str, None] = {}  # a dict keeps the order
    for name in _EARLY_MODULES:
        command = ("chroot", root, "modprobe", "--set-version", version, "--show-depends", name)
        for line in run_tool(*command).splitlines():
            if line.startswith("insmod "):
                found[line.split()[1]] = None
    return [root / path.lstrip("/") for path in found]
