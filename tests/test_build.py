# SPDX-License-Identifier: Apache-2.0
"""`build.py install`: exactly LD_PRELOAD=libivcsock.so must do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from aarch64 import require_tools

import build

ROOT = Path(__file__).resolve().parent.parent
SHOW_MAPS = "cat /proc/self/maps"

# The loader's configuration and cache are replaced by copies in a mount
# namespace of its own: the machine's stay as they are.
INSTALL_WHERE_THE_LOADER_LOOKS = """
set -e
mkdir "$1/etc"
mount -t tmpfs ivc-test "$1/etc"
cp -a /etc/. "$1/etc/"
mount --bind "$1/etc" /etc
echo "$1/lib" >> /etc/ld.so.conf
"$2" build.py install --prefix "$1"
cd /
LD_PRELOAD=libivcsock.so cat /proc/self/maps
"""


def loaded(maps: str) -> set[str]:
    """The files named libivcsock.so in a process's memory map."""
    return {line.split()[-1] for line in maps.splitlines() if line.endswith("libivcsock.so")}


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_where_the_loader_looks_the_bare_name_is_enough(tmp_path: Path) -> None:
    script = ["sh", "-c", INSTALL_WHERE_THE_LOADER_LOOKS, "sh", str(tmp_path), sys.executable]
    output = run("unshare", "-m", *script)
    assert output.startswith("LD_PRELOAD=libivcsock.so PROGRAM\n")
    assert loaded(output) == {str(tmp_path / "lib" / "libivcsock.so")}


def test_elsewhere_the_line_it_prints_is_enough(tmp_path: Path) -> None:
    printed = run(sys.executable, "build.py", "install", "--prefix", str(tmp_path))
    output = run("sh", "-c", printed.replace("PROGRAM", SHOW_MAPS))
    assert loaded(output) == {str(tmp_path / "lib" / "libivcsock.so")}


def test_a_second_build_does_nothing() -> None:
    run(sys.executable, "build.py")
    done = subprocess.run(
        [sys.executable, "build.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_who_may_not_write_there_is_told_where_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "lib").write_text("no folder")
    done = subprocess.run(
        [sys.executable, "build.py", "install", "--prefix", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"cannot write {tmp_path / 'lib'}: " in done.stderr
    assert "--prefix" in done.stderr and "Traceback" not in done.stderr


def test_a_compiler_without_headers_is_told_with_the_package_to_get(tmp_path: Path) -> None:
    compiler = tmp_path / "gcc"
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "build.py"],
        cwd=ROOT,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "apt-get install gcc libc6-dev" in done.stderr


def install(destdir: Path, *options: str) -> set[str]:
    """What `build.py install` puts below an image's root, as paths in that image."""
    run(sys.executable, "build.py", "install", "--destdir", str(destdir), *options)
    files = [path for path in destdir.rglob("*") if path.is_file()]
    return {f"/{path.relative_to(destdir)}" for path in files}


LIBRARY = "/usr/lib/libivcsock.so"
MANUAL = "/usr/share/man/man1/ivc.1"
ON_XEN = {
    "/etc/default/ivc-controller",
    "/etc/modules-load.d/ivc.conf",
    "/etc/udev/rules.d/70-ivc.rules",
}
UNIT = "/etc/systemd/system/ivc-controller.service"
SCRIPT = "/etc/init.d/ivc-controller"


def test_what_starts_the_controller_is_installed_only_when_asked_for(tmp_path: Path) -> None:
    assert install(tmp_path, "--prefix", "/usr") == {LIBRARY, MANUAL}


@pytest.mark.parametrize(
    ("init", "files"), [("systemd", {UNIT, "/etc/sysusers.d/ivc.conf"}), ("sysv", {SCRIPT})]
)
def test_each_init_gets_its_own_files(tmp_path: Path, init: str, files: set[str]) -> None:
    installed = install(tmp_path, "--prefix", "/usr", "--init", init)
    assert installed == {LIBRARY, MANUAL} | ON_XEN | files


@pytest.mark.parametrize(("init", "name"), [("systemd", UNIT), ("sysv", SCRIPT)])
def test_it_starts_the_program_below_the_prefix(tmp_path: Path, init: str, name: str) -> None:
    install(tmp_path, "--prefix", "/opt/vehicle", "--init", init)
    text = (tmp_path / name.lstrip("/")).read_text()
    assert "/opt/vehicle/bin/ivc" in text and "@PREFIX@" not in text


def test_settings_somebody_has_made_are_kept(tmp_path: Path) -> None:
    settings = tmp_path / "etc" / "default" / "ivc-controller"
    settings.parent.mkdir(parents=True)
    settings.write_text("mine")
    install(tmp_path, "--init", "systemd")
    assert settings.read_text() == "mine"


def test_the_init_script_can_be_run_as_it_is(tmp_path: Path) -> None:
    install(tmp_path, "--init", "sysv")
    script = tmp_path / "etc" / "init.d" / "ivc-controller"
    done = subprocess.run([script, "no-such-verb"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "start|stop|restart" in done.stderr


AARCH64 = 183  # e_machine


def machine(elf: Path) -> int:
    """For which processor a program or library is."""
    return int.from_bytes(elf.read_bytes()[18:20], "little")


def preload(folder: Path, compiler: str) -> Path:
    """Run `preload` where nothing is built yet; the folder it filled."""
    for name in ("core", "preload"):
        shutil.copytree(ROOT / name, folder / "bare" / name)
    shutil.copy(ROOT / "build.py", folder / "bare")
    before = sorted((folder / "bare").rglob("*"))
    # -I -S: the standard library alone.
    command = [sys.executable, "-I", "-S", "build.py", "preload", "--cc", compiler]
    command += ["--prefix", str(folder / "usr")]
    done = subprocess.run(command, cwd=folder / "bare", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted((folder / "bare").rglob("*")) == before
    return folder / "usr" / "lib"


def test_preload_needs_a_compiler_alone_and_brings_what_a_guest_needs(tmp_path: Path) -> None:
    folder = preload(tmp_path, "gcc -g")
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} == {
        "libivcsock.so",
        "modules-load.d/ivc.conf",
        "sysusers.d/ivc.conf",
        "udev/rules.d/70-ivc.rules",
    }
    library = str(folder / "libivcsock.so")
    assert loaded(run("env", f"LD_PRELOAD={library}", "cat", "/proc/self/maps")) == {library}


def test_preload_for_another_processor(tmp_path: Path) -> None:
    require_tools()
    assert machine(preload(tmp_path, build.CROSS) / "libivcsock.so") == AARCH64


def test_preload_says_which_package_has_the_cross_compiler(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "build.py", "preload", "--prefix", tmp_path, "--cc", build.CROSS],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross" in done.stderr


def test_what_the_tests_need_is_named_before_anything_is_built(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "build.py", "test"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    packages = "gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
    assert f"Get them with: apt-get install {packages}" in done.stderr
    assert " strace tshark valgrind " in done.stderr


def test_what_the_tests_need_is_what_readme_says_and_ci_installs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(build, "_compiles", lambda *args: False)
    monkeypatch.setattr(build.shutil, "which", lambda *args, **options: None)
    packages = " ".join(build.missing_for_tests())
    assert f"apt-get install {packages}\n" in (ROOT / "README.md").read_text()
    assert set(packages.split()) <= set(re.findall(r"[\w+-]+", (ROOT / ".ci" / "run").read_text()))
