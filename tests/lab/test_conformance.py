# SPDX-License-Identifier: Apache-2.0
"""The verdict on CPython's own tests: nothing that differs is overlooked."""

from __future__ import annotations

import importlib.util
import json
import unittest
from pathlib import Path

import pytest

from ivc.lab import conformance
from ivc.lab.conformance_report import (
    THE_RUN,
    Run,
    as_json,
    as_table,
    compare,
    counts,
    is_good,
    parse,
)
from ivc.lab.conformance_suite import Recorder, state


def lines(*events: tuple[str, str]) -> str:
    return "".join(
        json.dumps({"test": test, "outcome": outcome, "detail": ""}) + "\n"
        for test, outcome in events
    )


def run(**outcomes: str) -> Run:
    return Run({THE_RUN: "ended", **outcomes}, {}, wrapped=False)


def judged(native: Run, wrapped: Run, again: Run | None = None) -> list[tuple[str, str, str]]:
    suite = compare("test_x", "nothing", native, again or native, wrapped)
    return [(one.test, one.native, one.wrapped) for one in suite.difference]


def test_equal_runs_do_not_differ() -> None:
    suite = compare("test_x", "nothing", run(a="ok"), run(a="ok"), run(a="ok"))
    assert suite.difference == ()
    assert is_good([suite])


@pytest.mark.parametrize("wrapped", ["failure", "error", "skipped: no rings", "not ended"])
def test_another_outcome_differs(wrapped: str) -> None:
    assert judged(run(a="ok"), run(a=wrapped)) == [("a", "ok", wrapped)]


def test_a_failure_that_goes_away_differs() -> None:
    assert judged(run(a="failure"), run(a="ok")) == [("a", "failure", "ok")]


def test_another_reason_to_skip_differs() -> None:
    one, other = "skipped: needs VSOCK", "skipped: needs CAN"
    assert judged(run(a=one), run(a=other)) == [("a", one, other)]


def test_a_test_that_only_one_side_has_differs() -> None:
    assert judged(run(a="ok"), run(b="ok")) == [("a", "ok", "absent"), ("b", "absent", "ok")]


def test_what_differs_from_itself_natively_is_named_and_left_out() -> None:
    native, again, wrapped = run(a="ok", b="ok"), run(a="error", b="ok"), run(a="error", b="ok")
    suite = compare("test_x", "nothing", native, again, wrapped)
    assert (suite.unsteady, suite.difference) == (("a",), ())
    assert "unsteady natively, left out: a" in as_table([suite])


def test_a_wrapped_run_that_hangs_differs() -> None:
    text = lines(("", "wrapped"), ("a", "not ended"))
    hung = parse(text, "time-out")
    assert judged(run(a="ok"), hung) == [(THE_RUN, "ended", "time-out"), ("a", "ok", "not ended")]


@pytest.mark.parametrize("end", ["status 0", "status -11"])
def test_a_process_that_ends_before_its_suite_did_not_end(end: str) -> None:
    assert parse(lines(("", "native"), ("a", "ok")), end).outcomes[THE_RUN] == end


def test_a_process_that_dies_after_its_suite_did_not_end() -> None:
    assert parse(lines(("a", "ok"), ("", "ended")), "status -6").outcomes[THE_RUN] == "status -6"


def test_a_failed_subtest_is_a_failure_of_its_test() -> None:
    text = lines(("a", "not ended"), ("a", "failure"), ("a", "ok"), ("", "ended"))
    assert parse(text, "status 0").outcomes == {"a": "failure", THE_RUN: "ended"}


def test_the_file_says_whether_the_wrapper_was_there() -> None:
    assert parse(lines(("", "wrapped")), "status 0").wrapped
    assert not parse(lines(("", "native")), "status 0").wrapped


@pytest.mark.parametrize(
    ("maps", "found"),
    [
        ("/lib/libc.so.6\n", "native"),
        ("/x/libivcsock.so\n/run/ivc/match\n", "wrapped"),
        ("/x/libivcsock.so\n", "without plan"),
        ("/x/libivcsock.so\n/elsewhere/match\n", "without plan"),
    ],
)
def test_a_wrapper_counts_only_with_the_plan_loaded(maps: str, found: str) -> None:
    assert state(maps, "/run/ivc") == found


def test_no_tests_are_no_success() -> None:
    assert not is_good([])
    assert not is_good([compare("test_x", "nothing", run(), run(), run())])


def test_a_suite_that_never_ends_natively_is_no_success() -> None:
    hung = Run({THE_RUN: "time-out", "a": "ok"}, {}, wrapped=False)
    assert not is_good([compare("test_x", "nothing", hung, hung, hung)])


def test_counts_put_skips_together() -> None:
    outcomes = {"a": "ok", "b": "skipped: x", "c": "skipped: y"}
    assert counts(run(**outcomes)) == {"ok": 1, "skipped": 2}


def test_json_has_what_a_reader_looks_for() -> None:
    suite = compare("test_x", "nothing", run(a="ok"), run(a="ok"), run(a="error"))
    found = as_json([suite])
    assert found["ring_fraction"] is None
    assert found["suites"][0] == {
        "name": "test_x",
        "mode": "nothing",
        "native": {"ok": 1},
        "wrapped": {"error": 1},
        "unsteady": [],
        "difference": [{"test": "a", "native": "ok", "wrapped": "error", "detail": ""}],
    }


class Sample(unittest.TestCase):
    """Not collected by name: a test for the recorder to record."""

    def passes(self) -> None:
        pass

    def fails(self) -> None:
        self.fail("as it should")

    def skips(self) -> None:
        self.skipTest("no device")

    def has_a_bad_part(self) -> None:
        for number in range(2):
            with self.subTest(number=number):
                self.assertEqual(number, 0)


def test_what_is_recorded_is_what_happened(tmp_path: Path) -> None:
    file = tmp_path / "events"
    recorder = Recorder(file)
    names = ("passes", "fails", "skips", "has_a_bad_part")
    unittest.TestSuite(Sample(name) for name in names).run(recorder)
    recorder.write("", "ended")
    outcomes = parse(file.read_text(), "status 0").outcomes
    found = {test.rpartition(".")[2]: outcome for test, outcome in outcomes.items()}
    assert found == {
        "passes": "ok",
        "fails": "failure",
        "skips": "skipped: no device",
        "has_a_bad_part": "failure",
        THE_RUN: "ended",
    }


def test_an_interpreter_without_the_tests_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert conformance.main([]) == 69
    assert "libpython3.11-testsuite" in capsys.readouterr().err
