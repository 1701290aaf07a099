# SPDX-License-Identifier: Apache-2.0
"""Mutants of the matcher of rules: one of its branches disabled, and whether a test notices.

A condition is made always true or always false, and a part of one is made not to matter, by
changing the text of the source. A mutant of Python runs in a pytest of its own, of which this file
is a plugin that puts the mutant in place of the module; one of C is compiled with its test.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

from hypothesis import Phase, settings

ROOT: Final = Path(__file__).parents[1]
PYTHON: Final = {
    "ivc/network/ways.py": {
        "may_match",
        "covers",
        "candidates",
        "may_answer",
        "outlook",
        "_outlook",
        "_is_about",
        "first_match",
        "_matches",
        "_addressed",
    },
    "ivc/network/rules.py": {"by_message", "covers"},
    "ivc/plan.py": {"judge", "answers"},
}
"""Files, and the functions in them that match."""

C: Final = ("core/kinds.c",)
NOTICE: Final = ("tests/network/test_ways.py", "tests/test_plan_rules.py")
NOTICE_C: Final = "tests/core/kinds.c"
PATIENCE_S: Final = 120
_FAILED: Final = 1  # pytest's exit status if tests failed; others are no test's word


@dataclass(frozen=True, slots=True)
class Mutant:
    """The text from `start` to `end` of a file replaced."""

    file: str
    start: int
    end: int
    becomes: str

    @property
    def source(self) -> str:
        """The file as it is."""
        return (ROOT / self.file).read_text()

    @property
    def was(self) -> str:
        """What is replaced, in one line."""
        return " ".join(self.source[self.start : self.end].split())

    @property
    def text(self) -> str:
        """The mutated file."""
        return self.source[: self.start] + self.becomes + self.source[self.end :]

    def __str__(self) -> str:
        line = self.source.count("\n", 0, self.start) + 1
        return f"{self.file}:{line}: {self.was} -> {self.becomes}"


def mutants() -> list[Mutant]:
    """All of them."""
    found = [each for file, names in PYTHON.items() for each in _of_python(file, names)]
    return [*found, *(each for file in C for each in _of_c(file))]


def is_noticed(mutant: Mutant | None, folder: Path) -> bool:
    """Whether a test of Python, or of C, fails with it; None: with nothing changed."""
    if mutant is not None and mutant.file in C:
        return _c_fails(mutant.text, folder)
    return _python_fails(mutant, folder)


# ---- Python -----------------------------------------------------------------------------------


def _of_python(file: str, names: set[str]) -> Iterator[Mutant]:
    source = (ROOT / file).read_text()
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))

    def mutant(node: ast.expr, becomes: str) -> Mutant:
        assert node.end_lineno is not None and node.end_col_offset is not None
        start = lines[node.lineno - 1] + node.col_offset
        return Mutant(file, start, lines[node.end_lineno - 1] + node.end_col_offset, becomes)

    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef) and function.name in names:
            for node in ast.walk(function):
                for condition in _conditions(node):
                    yield mutant(condition, "True")
                    yield mutant(condition, "False")
                if isinstance(node, ast.BoolOp):
                    neutral = str(isinstance(node.op, ast.And))
                    yield from (mutant(part, neutral) for part in node.values)


def _conditions(node: ast.AST) -> Sequence[ast.expr]:
    if isinstance(node, ast.If | ast.IfExp):
        return [node.test]
    return node.ifs if isinstance(node, ast.comprehension) else []


def _python_fails(mutant: Mutant | None, folder: Path) -> bool:
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "IVC_EXAMPLES": "200"}
    if mutant is not None:
        env["IVC_MUTANT"] = json.dumps([str(ROOT / mutant.file), mutant.text])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "mutants",
        "-p",
        "no:cacheprovider",
    ]
    command += [f"--basetemp={folder / 'pytest'}", *NOTICE]
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode in {0, _FAILED}, done.stdout + done.stderr
    return done.returncode == _FAILED


class _Loader(SourceFileLoader):
    """Compiles a text of its own, and keeps no compiled file."""

    text = ""

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.text, self.get_filename(fullname), "exec")


class _Finder(MetaPathFinder):
    """Finds one module otherwise."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._text = text

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin != self._file:
            return None
        spec.loader = _Loader(name, self._file)
        spec.loader.text = self._text
        return spec


def pytest_configure() -> None:
    """The first failure found will do: nobody reads about it. (A hook of pytest.)"""
    settings.register_profile("mutant", settings.default, phases=(Phase.explicit, Phase.generate))
    settings.load_profile("mutant")


if "IVC_MUTANT" in os.environ:
    sys.meta_path.insert(0, _Finder(*json.loads(os.environ["IVC_MUTANT"])))


# ---- C ----------------------------------------------------------------------------------------


def _of_c(file: str) -> Iterator[Mutant]:
    text = (ROOT / file).read_text()
    for found in re.finditer(r"\b(if|while) \(", text):
        start, end = found.end(), _closing(text, found.end())
        yield Mutant(file, start, end, "0")
        if found[1] == "if":
            yield Mutant(file, start, end, "1")
        yield from _parts(file, text, start, end)
    for found in re.finditer(r"\breturn ([^;]*);", text):
        start, end = found.span(1)
        question = text.find(" ? ", start, end)
        if question >= 0:
            yield from (Mutant(file, start, question, becomes) for becomes in "01")
        yield from _parts(file, text, start, end)


def _closing(text: str, at: int) -> int:
    """Where the bracket is closed that was opened before `at`."""
    depth = 1
    while depth:
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        at += 1
    return at - 1


def _parts(file: str, text: str, start: int, end: int) -> Iterator[Mutant]:
    """What `&&` or `||` joins there, each made not to matter."""
    joints = list(re.finditer(r"\s*(&&|\|\|)\s*", text[start:end]))
    edges = [start, *(start + edge for one in joints for edge in one.span()), end]
    for at, to in zip(edges[::2], edges[1::2], strict=True):
        if joints:
            yield Mutant(file, at, to, "1" if joints[0][1] == "&&" else "0")


def _c_fails(text: str, folder: Path) -> bool:
    mutated, program = folder / "mutant.c", folder / "mutant"
    mutated.write_text(text)
    command = ["gcc", "-std=gnu11", "-O1", "-w", f"-I{ROOT / 'core'}", str(ROOT / NOTICE_C)]
    subprocess.run([*command, str(mutated), "-o", str(program)], check=True)
    done = subprocess.run([program], capture_output=True, check=False, timeout=PATIENCE_S)
    return done.returncode != 0
