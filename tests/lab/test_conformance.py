# SPDX-License-Identifier: Apache-2.0
"""The verdict on CPython's own tests: nothing that differs is overlooked."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
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
    has_rings,
    is_good,
    parse,
    ring_fraction,
    running,
)
from ivc.lab.conformance_suite import Recorder, begun, state, without


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


def test_the_test_that_hangs_is_the_one_that_started_last() -> None:
    assert running(lines(("a", "not run"), ("a", "not ended"))) == "a"
    assert running(lines(("a", "not ended"), ("a", "ok"))) == ""
    assert running("") == ""


def test_a_test_that_took_too_long_differs_by_its_id() -> None:
    text = lines(("a", "not run"), ("b", "not run"), ("a", "not ended"), ("a", "time-out"))
    text += lines(("b", "not run"), ("b", "not ended"), ("b", "ok"), ("", "ended"))
    assert judged(run(a="ok", b="ok"), parse(text, "status 0")) == [("a", "ok", "time-out")]


def test_what_did_not_run_is_named() -> None:
    text = lines(("a", "not run"), ("b", "not run"), ("a", "not ended"), ("a", "ok"))
    died = parse(text, "status -11")
    assert died.outcomes == {"a": "ok", "b": "not run", THE_RUN: "status -11"}


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


def test_ring_fraction_is_of_all_bytes_that_tests_sent() -> None:
    text = lines(("a", "ok"), ("b", "ok")) + "".join(
        json.dumps({"test": test, "outcome": "carried", "detail": detail}) + "\n"
        for test, detail in (("a", "900 0"), ("b", "100 150"))
    )
    wrapped = parse(text, "status 0")
    assert wrapped.outcomes["a"] == "ok"
    suite = compare("test_x", "loopback", run(a="ok"), run(a="ok"), wrapped)
    assert ring_fraction([suite]) == pytest.approx(0.85)
    assert ring_fraction([]) is None


@pytest.mark.parametrize(("lo", "enough"), [(100, True), (101, False)])
def test_rings_must_have_carried_nine_tenths(lo: int, enough: bool) -> None:
    wrapped = Run({THE_RUN: "ended"}, {}, wrapped=True, carried={"a": (1000, lo)})
    suites = [compare("test_x", "loopback", run(), run(), wrapped)]
    assert has_rings(suites) is enough
    assert has_rings([compare("test_x", "nothing", run(), run(), run())])
    assert f"by ring {1 - lo / 1000:.1%}" in as_table(suites)


SENDS = """
import os, socket
one, pair = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socketpair()
one.connect(("127.0.0.1", 9))
one.send(b"12345")
try:
    one.sendmsg([b"1", b"23"])
except ConnectionRefusedError:  # nobody is there, which the first one may have found out
    one.sendmsg([b"1", b"23"])
pair[0].send(b"not counted")
pipe = os.pipe()
os.write(pipe[1], b"not counted")
"""


def test_the_counter_counts_payload_on_sockets_of_the_internet(tmp_path: Path) -> None:
    counter, file = tmp_path / "count.so", tmp_path / "count"
    file.write_bytes(bytes(8))
    root = Path(__file__).parents[2]
    source = root / "bench" / "count_sent.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", counter, source], check=True)
    environment = {"LD_PRELOAD": str(counter), "IVC_COUNT_FILE": str(file)}
    subprocess.run([sys.executable, "-c", SENDS], env=environment, check=True)
    assert int.from_bytes(file.read_bytes(), sys.byteorder) == 8


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
        "carried": {},
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


def test_a_suite_goes_on_after_the_test_that_hung() -> None:
    suite = unittest.TestSuite([unittest.TestSuite(map(Sample, ("passes", "fails")))])
    first, second = (f"{__name__}.Sample.{name}" for name in ("passes", "fails"))
    done = begun(lines((first, "not run"), (second, "not run"), (first, "time-out")))
    assert [test.id() for part in without(suite, done) for test in part] == [second]


def test_a_test_that_hangs_is_ended_and_the_next_one_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    events = tmp_path / "events"
    events.write_text(lines(("a", "not ended")))
    monkeypatch.setattr(conformance, "_TEST_SECONDS", 0.0)
    with subprocess.Popen(["sleep", "60"], text=True) as process:
        end = conformance._watch(process, events, time.monotonic() + 30)
        process.kill()
    assert end == conformance._HUNG
    assert parse(events.read_text(), "").outcomes["a"] == "time-out"


def test_an_interpreter_without_the_tests_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert conformance.main([]) == 69
    assert "libpython3.11-testsuite" in capsys.readouterr().err
