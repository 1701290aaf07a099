# SPDX-License-Identifier: Apache-2.0
"""The pictures of the docs are what would be drawn now."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).parents[2] / "docs"
FOLDER = DOCS / "pictures"
SVG = "{http://www.w3.org/2000/svg}"


def script() -> ModuleType:
    """docs/pictures.py, which is no package."""
    spec = importlib.util.spec_from_file_location("pictures_of_docs", DOCS / "pictures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


PICTURES = script()
TOPOLOGIES = {"topology-2.svg": 2, "topology-12.svg": 12, "topology-60.svg": 62}


def texts(svg: str) -> list[str]:
    """What can be read in it, as words."""
    root = ElementTree.fromstring(svg)
    return " ".join("".join(one.itertext()) for one in root.iter(f"{SVG}text")).split()


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_topology_in_the_docs_is_as_drawn_now(name: str) -> None:
    drawn = PICTURES.PICTURES[name]()
    assert drawn == (FOLDER / name).read_text(), "run: python docs/pictures.py"


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_topology_has_as_many_nodes_as_its_name_says(name: str) -> None:
    root = ElementTree.parse(FOLDER / name).getroot()
    cards = [one for one in root.iter(f"{SVG}g") if one.get("class") in {"node", "node outside"}]
    assert len(cards) == TOPOLOGIES[name]


def test_the_screen_in_the_docs_tells_what_it_tells_now() -> None:
    """Not the same bytes: its library numbers what it draws."""
    drawn = PICTURES.PICTURES["top.svg"]()
    assert texts(drawn) == texts((FOLDER / "top.svg").read_text()), "run: python docs/pictures.py"


def test_pictures_fetch_nothing_and_are_small() -> None:
    files = [FOLDER / name for name in PICTURES.PICTURES]
    assert sum(file.stat().st_size for file in files) < 300_000
    for file in files:
        found = set(re.findall(r"https?://[^\"' )]*", file.read_text()))
        assert found <= {"http://www.w3.org/2000/svg", "https://www.textualize.io"}, file


def test_every_picture_is_shown_somewhere() -> None:
    pages = "".join(file.read_text() for file in DOCS.glob("*.md"))
    assert all(f"pictures/{name})" in pages for name in PICTURES.PICTURES)
