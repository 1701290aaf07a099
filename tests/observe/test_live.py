# SPDX-License-Identifier: Apache-2.0
"""`ivc graph --live`: what the page is told, and what it may do."""

import base64
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
from typing import Any

import pytest
from pictures import Picture
from statuses import document, flow

from ivc.cli import main
from ivc.observe.html import render_html
from ivc.observe.live import live

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
SCRIPT = pathlib.Path(__file__).parents[2] / "ivc" / "observe" / "live.js"
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


# ---- what the page makes of it


LINKS = [("1 2", "direct"), ("1 3", "relay")]


def shown(*answers: Any) -> list[dict[str, Any]]:
    """What a page with these two links shows after each answer."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node: apt-get install nodejs")
    harness = pathlib.Path(__file__).with_name("live_page.js")
    page = json.dumps({"links": LINKS, "answers": answers})
    command = [node, str(harness), str(SCRIPT), page]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


def told(clock: float, written: int, link: str = "1 2 direct", number: int = 1) -> dict[str, Any]:
    """One flow, as `live` tells of it."""
    return {"clock": clock, "flows": [{"id": number, "link": link, "written": written}]}


def test_a_link_shows_its_rate_from_the_second_look_on() -> None:
    first, second = shown(told(10, 5000), told(12, 9000))
    assert (first["labels"], first["widths"]) == ([], ["", ""])
    assert first["state"] == "1 flows, 0B/s on rings"
    assert second["labels"] == ["2.0kB/s"]
    assert second["state"] == "1 flows, 2.0kB/s on rings"


def test_the_more_goes_over_a_link_the_thicker_it_is() -> None:
    _, little, much, nothing = shown(
        told(1, 0), told(2, 1000), told(3, 1_001_000), told(4, 1_001_000)
    )
    assert 1.6 < little["widths"][0] < much["widths"][0]
    assert little["widths"][1] == ""
    assert nothing["widths"] == ["", ""]


def test_a_flow_that_is_new_has_no_rate_yet() -> None:
    _, second = shown(told(1, 1000, number=1), told(2, 9000, number=2))
    assert second["labels"] == []


def test_a_flow_on_another_path_than_planned_is_shown_where_its_ends_are() -> None:
    _, second = shown(told(1, 0, "1 2 relay"), told(2, 500, "1 2 relay"))
    assert second["widths"][0] > 1.6
    assert second["labels"] == ["500B/s"]


def test_what_the_server_says_instead_is_shown_and_so_is_its_end() -> None:
    refused, ended = shown("no controller answers", None)
    assert refused["state"] == "no controller answers"
    assert ended["state"] == "ivc graph --live has ended"
