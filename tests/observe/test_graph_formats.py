# SPDX-License-Identifier: Apache-2.0
"""`ivc graph`: complete in every format, and nothing of a name is ever taken for markup."""

import base64
import hashlib
import pathlib
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from pictures import Picture

from ivc.cli import main
from ivc.network import Action, Path, Rule
from ivc.observe.formats import RENDER
from ivc.observe.graph_command import FORMATS
from ivc.observe.mermaid import EDGES_MAX
from ivc.observe.topology import Topology

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
COMMAND = ["graph", str(EXAMPLES), "--mapping", str(EXAMPLES / "mapping.toml")]

EVIL = (
    "</title></svg><script>alert(1)</script>",
    '" onload="x',
    "a&b\\",
    "c]--><br/>`;#%%\n\x1b[2J",
)
SVG = "{http://www.w3.org/2000/svg}"


class Tags(HTMLParser):
    """All elements of a page, and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize("form", RENDER)
def test_every_node_is_in_every_format(form: str, any_size: Topology) -> None:
    drawn = RENDER[form](any_size)
    assert all(one.name in drawn and one.address in drawn for one in any_size.inside)
    assert all(one.name in drawn for one in any_size.outside)


@pytest.mark.parametrize("form", RENDER)
def test_nothing_that_disturbs_a_terminal_is_drawn(form: str, picture: Picture) -> None:
    assert "\x1b" not in RENDER[form](picture(EVIL, domain=EVIL[0]))


def test_svg_has_names_as_text_only(picture: Picture) -> None:
    root = ElementTree.fromstring(RENDER["svg"](picture(EVIL, domain=EVIL[0])))
    cards = [one for one in root.iter(f"{SVG}g") if one.get("class") == "node"]
    shown = {one.get("data-name") for one in cards}
    assert shown == {*EVIL[:-1], EVIL[-1].replace("\n", "?").replace("\x1b", "?")}
    assert not list(root.iter(f"{SVG}script"))


def test_svg_has_every_link_in_its_colour(picture: Picture) -> None:
    seen = picture(("a", "b", "c"), Rule(1, Action.RELAY, source="a", destination="b"))
    root = ElementTree.fromstring(RENDER["svg"](seen))
    drawn = {(one.get("data-ends"), one.get("class")) for one in root.iter(f"{SVG}path")}
    assert drawn == {(f"{one.a} {one.b}", f"way {one.path.value}") for one in seen.links}


def test_html_has_no_element_of_a_name_and_one_script(picture: Picture) -> None:
    plain, evil = (Tags(RENDER["html"](picture(names))) for names in (tuple("abcd"), EVIL))
    assert sorted(evil.names) == sorted(plain.names)
    assert evil.attributes == plain.attributes
    assert plain.names.count("script") == 1


def test_html_fetches_nothing(any_size: Topology) -> None:
    page = RENDER["html"](any_size)
    assert not Tags(page).attributes & {"src", "href", "onload", "onclick"}
    assert set(re.findall(r"https?://[^\"' ]*", page)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page


def test_html_lets_its_own_script_run_and_no_other(picture: Picture) -> None:
    page = RENDER["html"](picture(("a", "b")))
    script = page.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'\"" in page


def test_mermaid_has_nothing_of_a_name_but_what_is_harmless(picture: Picture) -> None:
    drawn = RENDER["mermaid"](picture(EVIL, domain=EVIL[0]))
    labels = re.findall(r'\["(.*)"\]', drawn)
    assert len(labels) == len(EVIL) + 1
    for label in labels:
        assert re.fullmatch(r"(?:[A-Za-z0-9 \-_.:]|#\d+;|<br/>)*", label)


def many(count: int) -> tuple[str, ...]:
    return tuple(f"ecu-{number:02d}" for number in range(count))


@pytest.mark.parametrize("count", [2, 60])
def test_mermaid_stays_below_what_it_draws(count: int, picture: Picture) -> None:
    drawn = RENDER["mermaid"](picture(many(count)))
    assert 0 < drawn.count(" ---") <= EDGES_MAX


def test_mermaid_stays_below_also_if_every_path_is_numerous(picture: Picture) -> None:
    half = [Rule(n, Action.RELAY, service=0x1000 + n) for n in range(1, 30)]
    seen = picture(many(60), *half)
    assert all(len(seen.by_path(path)) > EDGES_MAX for path in (Path.DIRECT, Path.RELAY))
    assert RENDER["mermaid"](seen).count(" ---") <= EDGES_MAX


def test_dot_has_names_as_strings_only(picture: Picture) -> None:
    drawn = RENDER["dot"](picture(EVIL, domain=EVIL[0]))
    outside = re.sub(r'"(?:[^"\\]|\\.)*"', '""', drawn)
    assert not [word for word in ('"x', "script", "onload", "c]") if word in outside]
    assert drawn.count("\n") == outside.count("\n")


def test_dot_has_a_backslash_that_ends_a_name(picture: Picture) -> None:
    assert r'[label="a&amp;b\\\n10.77.0.1' in RENDER["dot"](picture(("a&b\\",)))


@pytest.mark.parametrize("form", RENDER)
def test_same_picture_same_bytes(form: str, any_size: Topology) -> None:
    assert RENDER[form](any_size) == RENDER[form](any_size)


def test_what_can_be_asked_for_can_be_drawn() -> None:
    assert tuple(RENDER) == FORMATS


# ---- the command ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "start"),
    [("p.html", "<!DOCTYPE"), ("p.svg", "<svg"), ("p.mmd", "flowchart"), ("p.gv", "graph")],
)
def test_the_file_name_says_the_format(name: str, start: str, tmp_path: pathlib.Path) -> None:
    assert main([*COMMAND, "-w", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_text().startswith(start)
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_asked_for_goes_before_the_name(tmp_path: pathlib.Path) -> None:
    assert main([*COMMAND, "-o", "dot", "-w", str(tmp_path / "p.svg")]) == 0
    assert (tmp_path / "p.svg").read_text().startswith("graph")


def test_without_a_file_it_is_svg_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(COMMAND) == 0
    assert capsys.readouterr().out.startswith("<svg")


def test_an_unknown_ending_is_wrong_usage(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMAND, "-w", str(tmp_path / "p.jpg")]) == 2
    err = capsys.readouterr().err
    assert "p.jpg: found ending .jpg, expected one of .html" in err and "-o" in err
    assert not list(tmp_path.iterdir())
