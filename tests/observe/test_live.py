# SPDX-License-Identifier: Apache-2.0
"""`ivc graph --live`: what the page is told, and what it may do."""

import base64
import hashlib
import pathlib
import re

import pytest
from pictures import Picture
from statuses import document, flow

from ivc.cli import main
from ivc.observe.html import render_html
from ivc.observe.live import live

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
COMMAND = ["graph", str(EXAMPLES), "--mapping", str(EXAMPLES / "mapping.toml"), "--live"]


def test_a_flow_is_told_at_its_link_whichever_way_it_goes(picture: Picture) -> None:
    back = flow(3, sender={"node": "b"}, receiver={"node": "a"})
    told = live(document(flows=[flow(1), back]), picture(("a", "b")))
    assert told["clock"] == 10.0
    assert [one["link"] for one in told["flows"]] == ["1 2 direct"] * 2
    assert told["flows"][0] == {
        "id": 1,
        "link": "1 2 direct",
        "written": 4096,
        "messages": None,
        "fill": 0.25,
    }


def test_a_link_is_called_as_the_picture_calls_it(picture: Picture) -> None:
    drawn = picture(("a", "b"))
    (link,) = drawn.links
    (told,) = live(document(flows=[flow(1)]), drawn)["flows"]
    assert told["link"] == f"{link.a} {link.b} {link.path.value}"
    assert f'data-path="{link.path.value}" data-ends="{link.a} {link.b}"' in render_html(drawn)


def test_flows_of_nodes_that_are_not_in_the_picture_are_left_out(picture: Picture) -> None:
    strange = flow(1, sender={"node": "c"}), flow(2, receiver={"node": None})
    assert live(document(flows=list(strange)), picture(("a", "b")))["flows"] == []


def test_a_live_page_runs_its_own_scripts_and_asks_its_own_server(picture: Picture) -> None:
    page = render_html(picture(("a", "b")), live=True)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    assert len(scripts) == 2
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    allowed = " ".join(f"'sha256-{one}'" for one in digests)
    assert policy.endswith(f"script-src {allowed}; connect-src 'self'")


def test_a_page_in_a_file_asks_nobody(picture: Picture) -> None:
    page = render_html(picture(("a", "b")))
    assert "connect-src" not in page and "fetch(" not in page


@pytest.mark.parametrize("other", [["-w", "p.html"], ["-o", "svg"]])
def test_what_is_served_is_not_written(
    other: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMAND, *other]) == 2
    assert "expected neither" in capsys.readouterr().err


def test_others_are_not_served(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "--listen", "0.0.0.0:0"]) == 2
    err = capsys.readouterr().err
    assert "expected one of this machine alone" in err and "--public" not in err


def test_without_a_controller_nothing_is_served(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMAND, "--listen", "127.0.0.1:0", "--run-dir", str(tmp_path)]) == 5
    assert "no controller answers" in capsys.readouterr().err
