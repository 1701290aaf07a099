# SPDX-License-Identifier: Apache-2.0
"""The command line: exit codes, where output goes, and that it never shows a traceback."""

import argparse
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ivc.cli import main, parser
from ivc.commands import COMMANDS, EXIT_CODES

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
FILES = [str(EXAMPLES / "hmi.json"), str(EXAMPLES / "adas.json")]
MAPPING = ["--mapping", str(EXAMPLES / "mapping.toml")]


@pytest.fixture
def bad(tmp_path: Path) -> str:
    """A configuration with a hexadecimal port."""
    path = tmp_path / "hmi.json"
    path.write_text((EXAMPLES / "hmi.json").read_text().replace("30510", "0x772E"))
    return str(path)


@pytest.fixture
def doubtful(tmp_path: Path) -> str:
    """A configuration that draws a warning."""
    path = tmp_path / "hmi.json"
    path.write_text((EXAMPLES / "hmi.json").read_text().replace("0x1235", "1235"))
    return str(path)


def test_examples_are_without_findings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--strict", *FILES, *MAPPING]) == 0
    assert capsys.readouterr() == ("0 errors, 0 warnings\n", "")


def test_examples_may_be_named_as_a_folder() -> None:
    assert main(["check", "--strict", str(EXAMPLES), *MAPPING]) == 0


def test_check_tells_an_error_and_exits_3(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", bad, FILES[1], *MAPPING]) == 3
    out = capsys.readouterr().out
    assert f"{bad}:10: error: /services/0/unreliable: found " in out
    assert 'write "30510"' in out and out.endswith("1 error, 0 warnings\n")


def test_check_passes_over_warnings(doubtful: str) -> None:
    assert main(["check", doubtful, FILES[1], *MAPPING]) == 0


def test_strict_check_exits_7_for_warnings(doubtful: str) -> None:
    assert main(["check", "--strict", doubtful, FILES[1], *MAPPING]) == 7


def test_strict_check_exits_3_for_errors(bad: str) -> None:
    assert main(["check", "--strict", bad, FILES[1], *MAPPING]) == 3


def test_check_speaks_json(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", bad, FILES[1], *MAPPING]) == 3
    document = json.loads(capsys.readouterr().out)
    assert (document["errors"], document["warnings"]) == (1, 0)
    finding = document["findings"][0]
    assert (finding["code"], finding["line"]) == ("hex-port", 10)
    assert finding["pointer"] == "/services/0/unreliable"


def test_plan_shows_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *FILES, *MAPPING]) == 0
    out = capsys.readouterr().out
    assert "adas - hmi" in out and "224.224.224.245:30490" in out


def test_plan_speaks_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--json", *FILES, *MAPPING]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"][0]["path"] == "direct"


def test_plan_of_a_bad_file_exits_3_and_prints_no_plan(
    bad: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--json", bad, FILES[1], *MAPPING]) == 3
    out, err = capsys.readouterr()
    assert out == "" and "hexadecimal port" in err


def test_plan_tells_warnings_beside_the_plan(
    doubtful: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--json", doubtful, FILES[1], *MAPPING]) == 0
    out, err = capsys.readouterr()
    json.loads(out)
    assert "[decimal-id]" in err


def test_ignored_warnings_are_not_told_and_not_counted(
    doubtful: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--strict", "--ignore", "decimal-id", doubtful, FILES[1], *MAPPING]
    assert main(["check", *arguments]) == 0
    assert capsys.readouterr().out == "0 errors, 0 warnings\n"


def test_errors_cannot_be_ignored(bad: str) -> None:
    assert main(["check", "--ignore", "hex-port", bad, FILES[1], *MAPPING]) == 3


def test_check_needs_no_mapping(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--strict", *FILES]) == 0
    assert main(["check", bad, FILES[1]]) == 3
    assert capsys.readouterr().out.endswith("1 error, 0 warnings\n")


def test_check_without_files_reads_what_vsomeip_would(
    bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VSOMEIP_CONFIGURATION", FILES[0])
    assert main(["check", "--strict"]) == 0
    monkeypatch.setenv("VSOMEIP_CONFIGURATION", bad)
    assert main(["check"]) == 3


@pytest.mark.parametrize("arguments", [[], ["plan"], ["plan", "x"], ["nonsense"]])
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2


@pytest.mark.parametrize("command", ["check", "plan"])
def test_help_tells_the_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert "exit codes:" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_before_a_command_is_of_all(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([option, "trace"])
    assert exit_.value.code == 0
    told = capsys.readouterr().out
    assert {one.name for one in COMMANDS} <= set(told.split())


def ivc(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real program, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ivc", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_module_runs_as_a_program() -> None:
    done = ivc("plan", "--json", *FILES, *MAPPING)
    assert (done.returncode, done.stderr) == (0, "")


def test_same_input_same_bytes_in_every_process() -> None:
    runs = [ivc("plan", "--json", *FILES, *MAPPING, PYTHONHASHSEED=seed) for seed in "123"]
    assert len({run.stdout for run in runs}) == 1


def test_name_the_terminal_cannot_show_is_no_error(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(
        (EXAMPLES / "mapping.toml").read_text().replace("[nodes.hmi]", '[nodes."häuschen"]')
    )
    config = tmp_path / "häuschen.json"
    config.write_text((EXAMPLES / "hmi.json").read_text())
    done = ivc("plan", str(config), FILES[1], "--mapping", str(mapping), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "h\\xe4uschen" in done.stdout


def test_reader_that_leaves_early_is_no_traceback() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", '"$0" -m ivc plan --json "$@" | true', sys.executable, *FILES, *MAPPING],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""


@pytest.mark.parametrize("command", [["status"], ["run", "--node", "hmi", "--", "true"]])
def test_without_a_controller_exits_5_and_says_how_to_start_one(
    command: list[str], tmp_path: Path
) -> None:
    done = ivc(*command, IVC_RUN_DIR=str(tmp_path), IVC_LIBRARY="/bin/true")
    assert done.returncode == 5
    assert f"{tmp_path}/status (No such file or directory)" in done.stderr
    assert "ivc controller CONFIG... --mapping M" in done.stderr


@pytest.mark.parametrize("command", [["status"], ["controller", *FILES, *MAPPING]])
def test_who_may_not_is_told_so_with_77(command: list[str], tmp_path: Path) -> None:
    # Root without the right to pass over modes is like everybody else.
    mortal = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    program = [*(mortal if os.geteuid() == 0 else []), sys.executable, "-m", "ivc"]
    tmp_path.chmod(0)
    done = subprocess.run(
        [*program, *command, "--run-dir", str(tmp_path / "run")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    tmp_path.chmod(0o700)
    assert done.returncode == 77, done.stderr
    assert str(tmp_path / "run") in done.stderr and "run it as root" in done.stderr


def test_an_unquoted_text_in_the_mapping_is_told_with_its_line(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text("version = 1\n[nodes.hmi]\nhost = netns:ivc-hmi\n")
    done = ivc("check", *FILES, "--mapping", str(mapping))
    assert done.returncode == 3
    assert f"{mapping}:3: error:" in done.stdout and 'host = "netns:NAME"' in done.stdout


def test_the_mapping_in_the_readme_fits_the_examples(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    block = text[text.index("    # mapping.toml\n") : text.index("\n\n| step |")]
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(textwrap.dedent(block))
    assert main(["check", "--strict", *FILES, "--mapping", str(mapping)]) == 0


@pytest.mark.parametrize("option", ["--paths=rail", "--rounds=0", "--calls=many"])
def test_the_laboratory_refuses_what_it_cannot_show(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["lab", "xen", option])
    assert exit_.value.code == 2
    assert "expected" in capsys.readouterr().err


IMPORTED = """
import json, sys
from ivc.cli import main
try:
    main(sys.argv[1:])
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
LONG_TO_IMPORT = {
    "construct",
    "cffi",
    "_cffi_backend",
    "ctypes",
    "pyroute2",
    "psutil",
    "logging",
    "shtab",
    "textual",
    "rich",
}
LONG_TO_IMPORT |= {"ivc.network", "ivc.plan", "ivc.someip", "ivc.shm", "ivc.platform"}


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["run", "--help"],
        ["run", "--", "/no/such/program"],
        ["status", "--help"],
        ["status"],
        ["quiesce", "hmi"],
        ["completion", "--help"],
        ["metrics"],
        ["fault", "list"],
        ["top", "--help"],
    ],
    ids=" ".join,
)
def test_a_command_imports_only_what_it_needs(command: list[str], tmp_path: Path) -> None:
    environment = {"IVC_RUN_DIR": str(tmp_path), "IVC_LIBRARY": "/bin/true"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *command],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    imported = set(json.loads(done.stderr.splitlines()[-1]))
    assert "ivc.cli" in imported and imported & LONG_TO_IMPORT == set()


def test_commands_are_those_their_modules_add_with_help_for_each() -> None:
    """So that what imports all (completion, manual page) tells the same as `ivc --help`."""
    (action,) = (one for one in parser()._actions if isinstance(one, argparse._SubParsersAction))
    told = [(one.dest, one.help) for one in action._choices_actions]
    assert told == [(one.name, one.help) for one in COMMANDS]


@contextmanager
def controller(run_dir: Path) -> Iterator[None]:
    """A controller of the examples."""
    command = [sys.executable, "-m", "ivc", "controller", *FILES, *MAPPING]
    process = subprocess.Popen(
        [*command, "--run-dir", str(run_dir)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert any("ready" in line for line in process.stderr)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _diff(folder: Path) -> int:
    (folder / "other.toml").write_text(
        (EXAMPLES / "mapping.toml").read_text().replace('"direct" ', '"relay" ')
    )
    with controller(folder):
        arguments = ["--mapping", str(folder / "other.toml"), "--run-dir", str(folder)]
        return ivc("plan", "--diff", *FILES, *arguments).returncode


def _guests_without_xen(folder: Path) -> int:
    (folder / "xen.toml").write_text("version = 1\n[nodes.hmi]\nvm = 'a'\n[nodes.adas]\nvm = 'b'\n")
    arguments = ["--mapping", str(folder / "xen.toml"), "--run-dir", str(folder)]
    return ivc("controller", *FILES, *arguments).returncode


def _forbidden(folder: Path) -> int:
    mortal = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    folder.chmod(0)
    command = [*(mortal if os.geteuid() == 0 else []), sys.executable, "-m", "ivc", "status"]
    done = subprocess.run([*command, "--run-dir", str(folder / "run")], cwd=ROOT, check=False)
    folder.chmod(0o700)
    return done.returncode


def _written(folder: Path, text: str, other: str) -> str:
    path = folder / "hmi.json"
    path.write_text((EXAMPLES / "hmi.json").read_text().replace(text, other))
    return str(path)


CODES: dict[int, Callable[[Path], int]] = {
    0: lambda _: ivc("check", *FILES, *MAPPING).returncode,
    1: lambda folder: ivc("import", *FILES, "-o", str(folder / "no" / "folder")).returncode,
    2: lambda _: ivc("nonsense").returncode,
    3: lambda folder: ivc("plan", _written(folder, "30510", "0x772E"), *MAPPING).returncode,
    4: _diff,
    5: lambda folder: ivc("status", "--run-dir", str(folder)).returncode,
    7: lambda folder: ivc("check", "--strict", _written(folder, "0x1235", "1235")).returncode,
    69: _guests_without_xen,
    77: _forbidden,
}
"""A command that ends with it."""

ELSEWHERE = {6}
"""Wants a program that fell back: tests/controller/test_controller_status.py."""


@pytest.mark.parametrize(
    "code",
    sorted({int(n) for n in re.findall(r"^  (\d+)", EXIT_CODES, re.MULTILINE)} - ELSEWHERE),
)
def test_every_exit_code_of_the_help_is_one_a_command_ends_with(code: int, tmp_path: Path) -> None:
    assert CODES[code](tmp_path) == code
