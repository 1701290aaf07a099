#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds IVC into .venv/ and build/, runs the demo and the tests, installs the library.

Needs Python >= 3.11 and nothing but its standard library; what else is missing
on the machine is named together with the way to get it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
BUILD = ROOT / "build"
LIBRARY = BUILD / "libivcsock.so"
PINGPONG = BUILD / "pingpong"
BARE_RING = BUILD / "bare_ring"
CALLS = BUILD / "calls"
FLOWS = BUILD / "flows"
RING_CALLS = BUILD / "ring_calls"
WAITS = BUILD / "waits"
COUNTER = BUILD / "count_sent.so"
MANUAL = BUILD / "ivc.1"
CORE_SOURCES = sorted((ROOT / "core").glob("*.c"))
# Of core/ what is in the wrapper, too: no heap, no locks, no threads.
NOT_WRAPPED = ("kinds", "faults", "answer", "stream_relay", "relay", "capture")
WRAPPER_SOURCES = [path for path in CORE_SOURCES if path.stem not in NOT_WRAPPED]
GUEST = ROOT / "preload" / "guest"
STAMP = VENV / "ivc-installed"
# Verbs whose arguments are another's.
_PASSED_ON = ("demo", "bench", "conformance", "xen", "test", "full")

# What starts the controller in dom0: file, mode, place. Devices and modules as in a guest.
PACKAGING = ROOT / "packaging"
SETTINGS = Path("/etc/default/ivc-controller")
_ON_XEN = (
    (PACKAGING / "ivc-controller.default", 0o644, SETTINGS),
    (GUEST / "lib/udev/rules.d/70-ivc.rules", 0o644, Path("/etc/udev/rules.d/70-ivc.rules")),
    (GUEST / "lib/modules-load.d/ivc.conf", 0o644, Path("/etc/modules-load.d/ivc.conf")),
)
_UNIT = Path("/etc/systemd/system/ivc-controller.service")
INIT_FILES = {
    "systemd": (
        *_ON_XEN,
        (GUEST / "lib/sysusers.d/ivc.conf", 0o644, Path("/etc/sysusers.d/ivc.conf")),
        (PACKAGING / "ivc-controller.service", 0o644, _UNIT),
    ),
    "sysv": (
        *_ON_XEN,
        (PACKAGING / "ivc-controller.init", 0o755, Path("/etc/init.d/ivc-controller")),
    ),
}

# How all C of ours is compiled; the tests add their sanitizers to it.
C = ["-std=c11", "-Wall", "-Wextra", "-Wshadow", "-Wconversion"]
STRICT = [*C, "-Werror"]
COMPILE = ["gcc", "-O2", *STRICT]

CROSS = "aarch64-linux-gnu-gcc"
EMULATOR = "qemu-aarch64"
# Debian's names of what a compiler needs.
_COMPILERS = {
    "gcc": "gcc libc6-dev",
    CROSS: "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
}
_ASIO = "g++ libboost-dev"


# What the tests need besides a compiler for aarch64: Debian's name, and the program it is for.
# The last three are for a real Xen in an emulator.
_FOR_TESTS = {
    "qemu-user": EMULATOR,
    "nftables": "nft",
    "strace": "strace",
    "tshark": "tshark",
    "valgrind": "valgrind",
    "qemu-system-x86": "qemu-system-x86_64",
    "debootstrap": "debootstrap",
    "e2fsprogs": "mke2fs",
}


def main() -> None:
    options = _arguments()
    try:
        options.action(options)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="build.py", description=__doc__)
    parser.set_defaults(action=lambda options: build())
    verbs = parser.add_subparsers(title="verbs (none: build only)")

    def verb(name: str, action: Callable[[argparse.Namespace], None], help_text: str) -> None:
        sub = verbs.add_parser(name, help=help_text, add_help=name not in _PASSED_ON)
        sub.set_defaults(action=action)
        if name == "install":
            _add_install_options(sub)
        if name == "preload":
            sub.add_argument(
                "--prefix", type=Path, required=True, help="the image's /usr: its lib/ gets all"
            )
            sub.add_argument("--cc", default="gcc", help="the compiler (default %(default)s)")

    verb("demo", demo, "unmodified SOME/IP programs, over the network and over shared memory")
    verb("bench", bench, "IVC beside veth, loopback, AF_UNIX and the bare ring, and its targets")
    verb("conformance", conformance, "CPython's own tests, natively and wrapped, compared")
    verb("xen", xen, "boot a real Xen with two guests in QEMU; arguments go to ivc.lab.xen")
    verb("test", test, "all tests; arguments go to pytest")
    verb("full", full, "the tests with every long variant; arguments go to pytest")
    verb("install", install, "put libivcsock.so where the loader finds it")
    verb("preload", preload, "the library alone, for a guest's image; needs only a compiler")
    verb("clean", clean, "remove everything this program made")
    options, rest = parser.parse_known_args()
    if rest and options.action.__name__ not in _PASSED_ON:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    return options


def _add_install_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prefix",
        type=Path,
        default=Path("/usr/local"),
        help="its lib/ gets the library, its share/man/ the manual (default %(default)s)",
    )
    parser.add_argument(
        "--destdir",
        type=Path,
        help="root of an image that is being made; everything goes below it",
    )
    parser.add_argument(
        "--init",
        choices=[*INIT_FILES, "none"],
        default="none",
        help="also what starts the controller in dom0, and the settings for it, in /etc "
        "(default %(default)s)",
    )


# ---- verbs ------------------------------------------------------------------


def build() -> None:
    """Everything the other verbs need; does only what is out of date."""
    _require_tools()
    _make_venv()
    _make_library()
    _make_binding()
    _make_program(PINGPONG, ROOT / "bench" / "pingpong.c")
    _make_program(BARE_RING, ROOT / "bench" / "bare_ring.c", *bare_ring_arguments())
    _make_program(CALLS, ROOT / "bench" / "calls.c")
    _make_program(RING_CALLS, ROOT / "bench" / "ring_calls.c", *bare_ring_arguments())
    _make_program(FLOWS, ROOT / "bench" / "flows.c", f"-I{ROOT / 'core'}")
    _make_program(WAITS, ROOT / "bench" / "waits.c", "-rdynamic")
    _make_program(COUNTER, ROOT / "bench" / "count_sent.c", "-fPIC", "-shared")


def demo(options: argparse.Namespace) -> None:
    build()
    os.chdir(ROOT)
    os.execv(PYTHON, [str(PYTHON), "-m", "ivc.lab.demo", *options.rest])


def bench(options: argparse.Namespace) -> None:
    build()
    if any(word.startswith("--plots") for word in options.rest):
        _install_for_plots()
    os.chdir(ROOT)
    os.execv(PYTHON, [str(PYTHON), "-m", "bench", *options.rest])


def conformance(options: argparse.Namespace) -> None:
    build()
    os.chdir(ROOT)
    os.execv(PYTHON, [str(PYTHON), "-m", "ivc.lab.conformance", *options.rest])


def xen(options: argparse.Namespace) -> None:
    build()
    os.chdir(ROOT)
    os.execv(PYTHON, [str(PYTHON), "-m", "ivc.lab.xen", *options.rest])


def test(options: argparse.Namespace) -> None:
    """Style, types, tests. With arguments only the tests they choose."""
    if not options.rest:
        _require_for_all_tests()
    build()
    if not options.rest:
        _run([PYTHON, "-m", "ruff", "check", "."])
        _run([PYTHON, "-m", "mypy"])
    _run([PYTHON, "-m", "pytest", *options.rest])


def full(options: argparse.Namespace) -> None:
    if not options.rest:
        _require_for_all_tests()
    os.environ.setdefault("IVC_EXAMPLES", "100000")
    os.environ["IVC_FULL"] = "1"
    options.rest = ["--timeout", "0", *options.rest]
    test(options)


def install(options: argparse.Namespace) -> None:
    build()
    prefix: Path = options.prefix.absolute()
    _install_file(LIBRARY, _below(options.destdir, prefix / "lib" / LIBRARY.name))
    _make_manual()
    _install_file(MANUAL, _below(options.destdir, prefix / "share" / "man" / "man1" / MANUAL.name))
    for source, mode, place in INIT_FILES.get(options.init, ()):
        target = _below(options.destdir, place)
        if place == SETTINGS and target.exists():
            _say(f"keep {target}")
        else:
            _install_file(source, target, mode, prefix)
    if options.init != "none" and not _below(options.destdir, prefix / "bin" / "ivc").exists():
        _say(f"not there yet: {prefix}/bin/ivc, which is to be started; see docs/xen.md, dom0")
    if options.destdir is None and _loader_finds(prefix / "lib"):
        print("LD_PRELOAD=libivcsock.so PROGRAM")
    else:
        print(f"LD_LIBRARY_PATH={prefix / 'lib'} LD_PRELOAD=libivcsock.so PROGRAM")


def preload(options: argparse.Namespace) -> None:
    """The wrapper, and how a Xen guest lets its programs reach the devices it needs."""
    compiler = shlex.split(options.cc)
    if not _compiles(compiler):
        packages = _COMPILERS.get(options.cc)
        hint = f"\nGet it with: apt-get install {packages}" if packages else ""
        _fail(f"no program can be compiled with: {options.cc}{hint}")
    prefix: Path = options.prefix.absolute()
    with tempfile.TemporaryDirectory() as scratch:
        library = Path(scratch) / LIBRARY.name
        # Without -Werror: a warning only a newer compiler knows must not stop anybody.
        _run([*compiler, "-O2", *C, *wrapper_arguments(), "-o", library])
        _install_file(library, prefix / "lib" / library.name)
    for file in sorted(GUEST.rglob("*")):
        if file.is_file():
            _install_file(file, prefix / file.relative_to(GUEST))


def clean(_options: argparse.Namespace) -> None:
    for folder in (VENV, BUILD, ROOT / "ivc.egg-info"):
        shutil.rmtree(folder, ignore_errors=True)
    for made in ("libivccore.so", "_core.py"):
        (ROOT / "ivc" / "shm" / made).unlink(missing_ok=True)


# ---- parts ------------------------------------------------------------------


def _require_tools() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036  # whoever has an old one needs to be told
        _fail(f"Python {sys.version.split()[0]} is too old: IVC needs 3.11 or newer.")
    missing = {
        _COMPILERS["gcc"]: not _compiles(["gcc"]),
        "iproute2": shutil.which("ip") is None,
        "util-linux": shutil.which("nsenter") is None,
        "python3-venv": not PYTHON.exists() and not _importable("ensurepip"),
    }
    packages = [name for name, absent in missing.items() if absent]
    if packages:
        names = " ".join(packages)
        _fail(f"missing on this machine: {names}\nGet them with: apt-get install {names}")


def missing_for_tests() -> list[str]:
    """Debian's names of what the tests need beyond the build and this machine has not."""
    # Debian has some where only root looks.
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    missing = {_COMPILERS[CROSS]: not _compiles([CROSS])}
    missing |= {name: not shutil.which(tool, path=path) for name, tool in _FOR_TESTS.items()}
    missing[_ASIO] = not _compiles(["g++"], "c++", "boost/asio.hpp")
    return [name for name, absent in missing.items() if absent]


def _require_for_all_tests() -> None:
    packages = missing_for_tests()
    if packages:
        names = " ".join(packages)
        _fail(
            f"missing on this machine for the tests: {names}\n"
            f"Get them with: apt-get install {names}\n"
            "Or choose tests that do without: build.py test tests/shm tests/core"
        )


def _importable(module: str) -> bool:
    command = [sys.executable, "-c", f"import {module}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _compiles(compiler: Sequence[str], language: str = "c", header: str = "stdio.h") -> bool:
    """There is a compiler, and it finds a header: Debian has libc's in a package apart."""
    command = [*compiler, "-E", "-include", header, "-x", language, os.devnull]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _make_venv() -> None:
    """Create .venv and install the pins of pyproject.toml, once for each change of it."""
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    if not PYTHON.exists():
        _say("create .venv")
        _run([sys.executable, "-m", "venv", VENV], busy=True)
    _say("install what pyproject.toml names into .venv")
    pip = [PYTHON, "-m", "pip", "-qq", "--disable-pip-version-check"]
    everything = f"{ROOT}[lab,shell,top,test]"
    _run([*map(str, pip), "install", "--editable", everything], busy=True)
    STAMP.write_text(wanted)


def _install_for_plots() -> None:
    """What draws the bench's pictures, and is large: only for those who want them."""
    if subprocess.run(
        [PYTHON, "-c", "import matplotlib"], capture_output=True, check=False
    ).returncode:
        _say("install what draws pictures into .venv")
        pip = [PYTHON, "-m", "pip", "-qq", "--disable-pip-version-check"]
        _run([*map(str, pip), "install", "--editable", f"{ROOT}[plots]"])


def _make_library() -> None:
    parts = [*(ROOT / "preload").glob("*.*"), *(ROOT / "core").glob("*.[ch]")]
    if not _outdated(LIBRARY, parts):
        return
    _say(f"compile {LIBRARY.relative_to(ROOT)}")
    _compile(LIBRARY, wrapper_arguments())


def wrapper_arguments() -> list[str | Path]:
    """What makes a compiler build the wrapper, beside warnings and optimisation."""
    exports = ROOT / "preload" / "exports.map"
    flags = ["-fPIC", "-shared", "-fvisibility=hidden", "-Wl,-z,nodelete", "-Wl,-z,now"]
    flags += [f"-Wl,--version-script={exports}", f"-I{ROOT / 'core'}"]
    sources = [*sorted((ROOT / "preload").glob("*.c")), *WRAPPER_SOURCES]
    # Before glibc 2.34 dlsym is in libdl, whatever the library was built with.
    return [*flags, *sources, "-Wl,--no-as-needed", "-l:libdl.so.2"]


def _make_binding() -> None:
    """The cffi module over core/, in place beside ivc/shm/."""
    sources = [*(ROOT / "core").glob("*.[ch]"), ROOT / "ivc" / "shm" / "build_core.py"]
    if not _outdated(ROOT / "ivc" / "shm" / "libivccore.so", sources):
        return
    _say("compile the Python binding of core/")
    _run([PYTHON, "-m", "ivc.shm.build_core", *COMPILE], quiet=True)


def _make_manual() -> None:
    """The manual page, of what `--help` says."""
    if not _outdated(MANUAL, (ROOT / "ivc").rglob("*.py")):
        return
    _say(f"write {MANUAL.relative_to(ROOT)}")
    same_everywhere = ["env", "-u", "IVC_RUN_DIR", "COLUMNS=80"]
    source = ["--module", "ivc.cli", "--function", "parser", "--project-name", "ivc"]
    titles = ["--prog", "ivc", "--manual-title", "IVC", "--description", "SOME/IP by shared memory"]
    program = VENV / "bin" / "argparse-manpage"
    _run([*same_everywhere, program, *source, *titles, "--output", MANUAL], quiet=True)


def bare_ring_arguments() -> list[str]:
    """What makes a compiler put the ring into a program."""
    return [f"-I{ROOT / 'core'}", str(ROOT / "core" / "ring.c")]


def _make_program(target: Path, source: Path, *flags: str) -> None:
    parts = [*source.parent.glob("*.h"), *map(Path, flags)]  # of flags, those that are files
    if _outdated(target, [source, *parts]):
        _say(f"compile {target.relative_to(ROOT)}")
        _compile(target, [*flags, source])


def _compile(target: Path, arguments: Sequence[str | Path]) -> None:
    target.parent.mkdir(exist_ok=True)
    beside = target.with_suffix(f".{os.getpid()}")
    _run([*COMPILE, "-o", beside, *arguments], busy=True)
    beside.replace(target)  # whole or not at all, also for those who run it


def _outdated(target: Path, sources: Iterable[Path]) -> bool:
    if not target.exists():
        return True
    made = target.stat().st_mtime_ns
    return any(source.stat().st_mtime_ns > made for source in sources if source.exists())


def _below(destdir: Path | None, target: Path) -> Path:
    return target if destdir is None else destdir.absolute() / target.relative_to("/")


def _install_file(
    source: Path, target: Path, mode: int = 0o644, prefix: Path | None = None
) -> None:
    """Whole or not at all. With `prefix`, it takes the place of @PREFIX@ inside."""
    _say(f"install {target}")
    content = source.read_bytes()
    if prefix is not None:
        content = content.replace(b"@PREFIX@", os.fsencode(prefix))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_suffix(f".{os.getpid()}")
        beside.write_bytes(content)
        beside.chmod(mode)
        beside.replace(target)  # programs that run keep the copy they have mapped
    except OSError as error:
        why = error.strerror or error
        where = f"cannot write {target.parent}: {why}"
        _fail(f"{where}\nRun it as root, or name a folder with --prefix or --destdir.")


def _loader_finds(folder: Path) -> bool:
    """Refresh the loader's cache and see whether it knows the library in `folder`."""
    ldconfig = shutil.which("ldconfig") or "/sbin/ldconfig"
    try:
        if os.geteuid() == 0:
            subprocess.run([ldconfig], check=True)
        listing = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return str(folder / LIBRARY.name) in listing.stdout


def _run(command: Sequence[str | Path], quiet: bool = False, busy: bool = False) -> None:
    """Run a step; its failure ends the build with the step's own status.

    One that is quiet, or busy without a word, is seen to go on.
    """
    output = subprocess.PIPE if quiet else None
    error = subprocess.STDOUT if quiet else None
    with _progress() if quiet or busy else contextlib.nullcontext():
        done = subprocess.run(command, cwd=ROOT, stdout=output, stderr=error, check=False)
    if done.returncode != 0:
        if done.stdout:
            sys.stderr.buffer.write(done.stdout)
        _fail(f"failed: {' '.join(str(part) for part in command)}", done.returncode)


def _progress() -> contextlib.AbstractContextManager[None]:
    try:
        from ivc.terminal import progress
    except ImportError:  # `preload` needs core/ and preload/ alone
        return contextlib.nullcontext()
    return progress("build: for")


def _say(text: str) -> None:
    print(f"build: {text}", file=sys.stderr, flush=True)


def _fail(text: str, status: int = 1) -> NoReturn:
    print(f"build: {text}", file=sys.stderr, flush=True)
    raise SystemExit(status if status > 0 else 1)


if __name__ == "__main__":
    main()
