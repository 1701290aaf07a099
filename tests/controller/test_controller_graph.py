# SPDX-License-Identifier: Apache-2.0
"""`ivc graph --live` of a running controller."""

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from controller_lab import Lab, Starter, with_flow

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:30509"


@contextmanager
def served(lab: Lab) -> Iterator[str]:
    """Where the page is."""
    folder = lab.run_dir.parent
    files = [str(folder / f"{name}.json") for name in "abc"]
    command = [sys.executable, "-m", "ivc", "graph", *files, "--mapping", folder / "mapping.toml"]
    options = ["--live", "--listen", "127.0.0.1:0", "--run-dir", lab.run_dir]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as program:
        try:
            assert program.stderr is not None
            lines = (line.partition("ivc graph: ")[2] for line in program.stderr)
            yield next(filter(None, lines)).strip()  # the first are findings in the files
        finally:
            program.send_signal(signal.SIGINT)
            program.communicate(timeout=20)


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_the_page_and_what_runs_are_served(start: Starter) -> None:
    lab = start()
    client, _ = with_flow(lab, CLIENT, SERVER)
    with served(lab) as url:
        assert "live.json" in get(url)
        before = json.loads(get(f"{url}live.json"))
        client.send(SERVER, bytes(20))
        after = json.loads(get(f"{url}live.json"))
    assert [flow["link"] for flow in after["flows"]] == ["1 2 direct"]
    assert after["flows"][0]["written"] - before["flows"][0]["written"] == 64
    assert after["clock"] > before["clock"]
