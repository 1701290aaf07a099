# SPDX-License-Identifier: Apache-2.0
"""`ivc metrics` of a running controller: printed, in a file, served."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from controller_lab import REQUEST, Starter, with_flow
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from ivc.cli import main
from ivc.controller.errors import NotPermitted
from ivc.errors import IvcError
from ivc.network import Path as FlowPath
from ivc.observe.exporter import Exporter, Page
from ivc.observe.openmetrics import CONTENT_TYPE

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:30509"


def values(text: str) -> dict[str, float]:
    """The sum of all samples of a name."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


@contextmanager
def serving(text: str | IvcError) -> Iterator[Exporter]:
    """An exporter of this, or that fails so."""

    def read() -> str:
        if isinstance(text, IvcError):
            raise text
        return text

    pages = {"/metrics": Page(CONTENT_TYPE, read)}
    with Exporter(ip_address("127.0.0.1"), 0, pages) as exporter:
        thread = threading.Thread(target=exporter.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield exporter
        finally:
            exporter.shutdown()
            thread.join(10)


def test_what_the_relay_has_counted_is_printed(
    start: Starter, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = start(FlowPath.RELAY)
    client, server = with_flow(lab, CLIENT, SERVER)
    client.send(SERVER, REQUEST)
    server.receive(1)
    assert main(["metrics", "--run-dir", str(lab.run_dir)]) == 0
    found = values(capsys.readouterr().out)
    assert (found["ivc_up"], found["ivc_processes"], found["ivc_sockets"]) == (1, 2, 2)
    assert found["ivc_relay_messages_total"] == found["ivc_relay_kind_messages_total"] == 1
    assert found["ivc_flow_relayed_messages_total"] == found["ivc_flows"] == 1


def test_a_file_is_written_whole(start: Starter, tmp_path: Path) -> None:
    lab = start()
    file = tmp_path / "ivc.prom"
    file.write_text("old")
    assert main(["metrics", "--textfile", str(file), "--run-dir", str(lab.run_dir)]) == 0
    assert values(file.read_text())["ivc_up"] == 1
    assert not list(tmp_path.glob("ivc.prom?*"))


def test_a_file_says_that_there_is_no_controller(tmp_path: Path) -> None:
    file = tmp_path / "ivc.prom"
    assert main(["metrics", "--textfile", str(file), "--run-dir", str(tmp_path)]) == 5
    assert values(file.read_text()) == {"ivc_up": 0}


def test_printing_without_a_controller_exits_5_and_prints_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["metrics", "--run-dir", str(tmp_path)]) == 5
    out, err = capsys.readouterr()
    assert out == "" and "no controller answers" in err


def test_others_are_not_served_unless_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "--listen", "0.0.0.0:0"]) == 2
    assert "--public" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["9464", "localhost:x", "127.0.0.1:65536", "127.0.0.1"])
def test_where_to_listen_is_an_address_and_a_port(
    where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["metrics", "--listen", where])
    assert "such as 127.0.0.1:9464" in capsys.readouterr().err


def test_a_served_text_is_openmetrics() -> None:
    with serving("# EOF\n") as exporter, urllib.request.urlopen(exporter.url, timeout=5) as answer:
        assert answer.headers["Content-Type"] == CONTENT_TYPE
        assert answer.read() == b"# EOF\n"


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="the kernel has no IPv6")
def test_an_ip_6_address_is_listened_at() -> None:
    with Exporter(ip_address("::1"), 0, {"/": Page("text/plain", str)}) as exporter:
        assert exporter.url.startswith("http://[::1]:")


@pytest.mark.parametrize(
    ("served", "path", "status"), [("", "", 404), (NotPermitted("mine"), "/metrics", 503)]
)
def test_what_cannot_be_served_says_so(served: str | IvcError, path: str, status: int) -> None:
    with serving(served) as exporter:
        base = exporter.url.removesuffix("/metrics")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{base}{path}", timeout=5)
        assert caught.value.code == status


def test_a_port_somebody_has_is_told() -> None:
    with serving("") as exporter, pytest.raises(IvcError, match="in use; name another"):
        Exporter(ip_address("127.0.0.1"), exporter.server_address[1], {})
