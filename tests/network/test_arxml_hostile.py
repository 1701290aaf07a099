# SPDX-License-Identifier: Apache-2.0
"""ARXML that means harm, or is no ARXML at all: findings in bounded time, never anything else."""

import time
from pathlib import Path

import arxml_project as vehicle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivc.network.arxml import parse, read_arxml
from ivc.network.values import Report

FRAME = '<AUTOSAR xmlns="http://autosar.org/schema/r4.0">{}</AUTOSAR>'


def codes(path: Path) -> list[str]:
    report = Report()
    read_arxml([(path, path.name)], report)
    return [finding.code for finding in report.sorted()]


def test_billion_laughs(tmp_path: Path) -> None:
    entities = '<!ENTITY a0 "ha">' + "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 20)
    )
    text = f"<!DOCTYPE AUTOSAR [{entities}]>" + FRAME.format("&a19;")
    assert codes(vehicle.write(tmp_path, text)) == ["doctype"]


def test_entity_that_names_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    text = f'<!DOCTYPE AUTOSAR [<!ENTITY a SYSTEM "{secret.as_uri()}">]>' + FRAME.format("&a;")
    assert codes(vehicle.write(tmp_path, text)) == ["doctype"]


def test_external_document_type(tmp_path: Path) -> None:
    text = '<!DOCTYPE AUTOSAR SYSTEM "http://127.0.0.1:9/x.dtd">' + FRAME.format("")
    assert codes(vehicle.write(tmp_path, text)) == ["doctype"]


@pytest.mark.parametrize("depth", [parse.MAX_DEPTH, 100_000])
def test_deep_nesting(tmp_path: Path, depth: int) -> None:
    text = FRAME.format("<A>" * depth + "</A>" * depth)
    assert codes(vehicle.write(tmp_path, text)) == ["too-deep"]


def test_deep_nesting_inside_what_is_not_kept(tmp_path: Path) -> None:
    inside = "<AR-PACKAGES><AR-PACKAGE><ELEMENTS>" + "<A>" * 100_000
    assert codes(vehicle.write(tmp_path, FRAME.format(inside))) == ["too-deep"]


def test_file_of_too_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "MAX_BYTES", 1 << 20)
    text = FRAME.format("<!--" + "x" * (3 << 20) + "-->")
    assert codes(vehicle.write(tmp_path, text)) == ["too-large"]


def test_file_of_too_many_elements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "MAX_ELEMENTS", 1000)
    assert codes(vehicle.write(tmp_path, FRAME.format("<A/>" * 1000))) == ["too-large"]


def test_names_that_grow_with_every_level(tmp_path: Path) -> None:
    named = f"<A><SHORT-NAME>{'x' * 128}</SHORT-NAME>"
    assert codes(vehicle.write(tmp_path, FRAME.format(named * 90))) == ["too-large"]


def test_endless_text_is_not_kept(tmp_path: Path) -> None:
    path = vehicle.write(tmp_path, FRAME.format("<A>" + "x\n" * (1 << 20) + "</A>"))
    root = parse.parse_arxml(path, path.name, Report())
    assert root is not None
    assert len(root.children[0].text) < 10_000


def test_elements_of_no_use_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "MAX_ELEMENTS", 1000)
    kept = vehicle.classic_v2().replace(
        "<ELEMENTS>", "<ELEMENTS><UNIT>" + "<A/>" * 2000 + "</UNIT>"
    )
    assert codes(vehicle.write(tmp_path, kept)) == []


def test_reference_in_a_circle(tmp_path: Path) -> None:
    text = vehicle.classic_v1()
    path = "/Vehicle/Ethernet/Channel/HmiUdp/HmiUdp_AE/Consumed"
    start = text.index("<PROVIDED-SERVICE-INSTANCE-REF")
    end = text.index("</PROVIDED-SERVICE-INSTANCE-REF>")
    text = text[: text.index(">", start) + 1] + path + text[end:]
    assert codes(vehicle.write(tmp_path, text)) == ["bad-reference"]


TEXTS = ["", "0", "-1", "ANY", "ALL", "70000", "224.1.1.1", "/Vehicle", "0x", "TCP", "9" * 5000]
GOOD = {name: make() for name, make in vehicle.MODELLINGS.items()}


@given(data=st.binary(max_size=200) | st.text("<>/&;!?AUTOSAR='\"[] ", max_size=60).map(str.encode))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.arxml"
    path.write_bytes(data)
    assert codes(path)


@settings(max_examples=min(settings.default.max_examples, 500))
@given(data=st.data())
def test_good_file_cut_and_mixed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Lines left out, doubled, exchanged, or with another text: an answer, never an exception."""
    lines = (
        data.draw(st.sampled_from(sorted(GOOD))).join([""])
        or GOOD[data.draw(st.sampled_from(sorted(GOOD)))]
    )
    rows = lines.splitlines(keepends=True)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(rows) - 1))
        match data.draw(st.integers(0, 3)):
            case 0:
                del rows[at : at + data.draw(st.integers(1, 3))]
            case 1:
                rows.insert(data.draw(st.integers(0, len(rows))), rows[at])
            case 2:
                head, sep, tail = rows[at].partition(">")
                if sep and "<" in tail:
                    rows[at] = (
                        head + sep + data.draw(st.sampled_from(TEXTS)) + tail[tail.index("<") :]
                    )
            case _:
                rows[at] = rows[at].replace("<", f"<{data.draw(st.sampled_from('AB'))}", 1)
    path = tmp_path_factory.getbasetemp() / "mixed.arxml"
    path.write_text("".join(rows))
    report = Report()
    configs = read_arxml([(path, "mixed.arxml")], report)
    assert configs or report.has_errors


def test_vehicle_of_many_services_is_read_in_seconds(tmp_path: Path) -> None:
    text = vehicle.classic_v2()
    start = text.index("<PROVIDED-SERVICE-INSTANCE>")
    end = text.index("</PROVIDED-SERVICE-INSTANCE>") + len("</PROVIDED-SERVICE-INSTANCE>")
    one = text[start:end]
    many = "".join(
        one.replace(">Provided<", f">P{n}<").replace(">4660<", f">{n}<") for n in range(1, 2001)
    )
    path = vehicle.write(tmp_path, text[:start] + many + text[end:])
    begin = time.monotonic()
    report = Report()
    configs = read_arxml([(path, path.name)], report)
    assert configs is not None
    assert len(configs[0].services) == 2000
    assert time.monotonic() - begin < 5
