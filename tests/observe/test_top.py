# SPDX-License-Identifier: Apache-2.0
"""`ivc top`: the screen by its own pilot, and the program in a terminal."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from statuses import document, flow, socket
from textual.pilot import Pilot
from textual.widgets import DataTable, Static, Tabs

from ivc.controller.rates import with_rates
from ivc.controller.tables import TABLES
from ivc.errors import IvcError
from ivc.observe.top import Top, summary

Document = dict[str, Any]
Seen = Pilot[None]


def seen(
    look: Callable[[Seen], Awaitable[None]],
    *looks: Document | IvcError,
    size: tuple[int, int] = (80, 24),
) -> None:
    """What `look` sees of the screen after the first of these; the last stays."""
    left = list(looks)

    def read() -> Document:
        one = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(one, IvcError):
            raise one
        return one

    async def run() -> None:
        app = Top(read, 0.05)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: titles(pilot) != [] or bool(trouble(pilot)))
            await look(pilot)

    asyncio.run(run())


async def until(pilot: Seen, done: Callable[[], bool]) -> None:
    for _ in range(1000):  # much longer than it takes, on a machine with nothing else to do
        await asyncio.sleep(0.02)
        if done():
            return
    raise AssertionError(rows(pilot), trouble(pilot))


def table(pilot: Seen) -> DataTable[Any]:
    return pilot.app.query_one(DataTable)


def rows(pilot: Seen) -> list[list[str]]:
    """What the table has."""
    one = table(pilot)
    return [[str(cell).strip() for cell in one.get_row_at(at)] for at in range(one.row_count)]


def titles(pilot: Seen) -> list[str]:
    return [str(column.label).strip() for column in table(pilot).ordered_columns]


def trouble(pilot: Seen) -> str:
    return str(pilot.app.query_one("#trouble", Static).content)


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
def test_flows_are_shown_with_how_full_they_are(size: tuple[int, int]) -> None:
    async def look(pilot: Seen) -> None:
        assert [row[:5] for row in rows(pilot)] == [
            ["1", "10.0.0.1:40000", "10.0.0.2:30509", "direct", "25%"],
            ["2", "10.0.0.1:40000", "10.0.0.2:30509", "relay", "-"],
        ]

    seen(look, document(), size=size)


def test_every_table_can_be_looked_at_and_has_rows() -> None:
    async def look(pilot: Seen) -> None:
        for number, name in enumerate(TABLES, start=1):
            await pilot.press(str(number))
            await pilot.pause()
            assert pilot.app.query_one(Tabs).active == name
            columns = TABLES[name](with_rates(None, document())).columns
            shown = [title.rstrip("▲▼") for title in titles(pilot)]
            assert shown == [one.title for one in columns]
            assert rows(pilot)

    seen(look, document())


def test_tab_goes_round() -> None:
    async def look(pilot: Seen) -> None:
        await pilot.press("shift+tab")
        assert pilot.app.query_one(Tabs).active == list(TABLES)[-1]
        await pilot.press("tab", "tab")
        assert pilot.app.query_one(Tabs).active == list(TABLES)[1]

    seen(look, document())


def test_the_second_look_has_rates() -> None:
    async def look(pilot: Seen) -> None:
        await pilot.press("2")
        await until(pilot, lambda: bool(rows(pilot)) and rows(pilot)[0][6] == "50")

    later = document(controller={"pid": 1, "clock": 12.0, "path": "direct"})
    later["sockets"][0] = socket(1, counters={"tx_ring_msgs": 200})
    seen(look, document(), *[document()] * 3, later, *[stalled(later, n) for n in range(1, 300)])


def stalled(last: Document, looks: int) -> Document:
    """The same rate for ever."""
    clock = 12.0 + 2 * looks
    counted = socket(1, counters={"tx_ring_msgs": 200 + 100 * looks})
    controller = {**last["controller"], "clock": clock}
    return {**last, "controller": controller, "sockets": [counted, last["sockets"][1]]}


def test_the_busiest_are_first_also_if_there_was_nobody_yet() -> None:
    async def look(pilot: Seen) -> None:
        assert titles(pilot)[6] == "ring B/s▼"
        await until(pilot, lambda: [row[0] for row in rows(pilot)] == ["2", "1"])

    def at(clock: float) -> Document:
        rings = [[{"size": 4096, "written": int(clock) * n, "waiting": 0}] for n in (32, 64)]
        flows = [flow(n, rings=ring) for n, ring in enumerate(rings, start=1)]
        return document(flows=flows, controller={"pid": 1, "clock": clock, "path": "direct"})

    nobody = document(flows=[])
    nobody["controller"]["clock"] = 0.0
    seen(look, nobody, *(at(float(second)) for second in range(1, 500)))


def test_rows_are_sorted_by_the_column_asked_for_and_the_other_way_round() -> None:
    async def look(pilot: Seen) -> None:
        def first() -> list[str]:
            return [row[0] for row in rows(pilot)]

        for _ in range(4):
            await pilot.press("s")
        assert titles(pilot)[0] == "flow▼"
        assert first() == ["3", "2", "1"]
        await pilot.press("r")
        assert first() == ["1", "2", "3"]
        await pilot.press("s")
        assert titles(pilot)[1] == "from▲"
        assert first() == ["2", "3", "1"]
        await pilot.press("S")
        assert titles(pilot)[0] == "flow▼"

    flows = [flow(1, **{"from": "c"}), flow(2, **{"from": "a"}), flow(3, **{"from": "b"})]
    seen(look, document(flows=flows))


def test_numbers_are_sorted_as_numbers_with_nothing_last() -> None:
    async def look(pilot: Seen) -> None:
        await pilot.press("S", "S")
        assert titles(pilot)[4] == "fill▼"
        assert [row[4] for row in rows(pilot)] == ["100%", "9%", "-"]

    rings = [[], [{"size": 100, "written": 0, "waiting": 9}]]
    full = [{"size": 100, "written": 0, "waiting": 100}]
    flows = [flow(n, rings=one) for n, one in enumerate([*rings, full])]
    seen(look, document(flows=flows))


def test_a_pause_keeps_what_is_shown() -> None:
    async def look(pilot: Seen) -> None:
        await pilot.press("p")
        shown = rows(pilot)
        await asyncio.sleep(0.3)
        assert rows(pilot) == shown
        assert str(pilot.app.query_one("#summary", Static).content).startswith("PAUSED")
        await pilot.press("space")
        await until(pilot, lambda: rows(pilot) != shown)

    looks = [document(flows=[flow(number)]) for number in range(1, 500)]
    seen(look, *looks)


def test_a_controller_that_is_gone_is_told_of_until_it_is_back() -> None:
    async def look(pilot: Seen) -> None:
        assert "no controller" in trouble(pilot)
        await until(pilot, lambda: trouble(pilot) == "" and len(rows(pilot)) == 2)

    seen(look, *[IvcError("no controller answers")] * 10, document())


def test_names_are_text_and_not_markup() -> None:
    async def look(pilot: Seen) -> None:
        await pilot.press("2")
        assert rows(pilot)[0][0] == "[red]x[/red]?[7]"

    evil = socket(1, command="[red]x[/red]\x1b")
    seen(look, document(sockets=[evil]))


def test_an_idle_controller_has_a_screen_too() -> None:
    async def run() -> None:
        idle = document(flows=[], sockets=[], processes=[], services=[], nodes=[])
        async with Top(lambda: idle, 0.05).run_test() as pilot:
            await until(pilot, lambda: "flows 0" in str(pilot.app.query_one("#summary").render()))
            await pilot.press("s", "r", "tab", "q")

    asyncio.run(run())


def test_the_summary_adds_up_what_sockets_send() -> None:
    rated = [
        {**socket(n), "rates": dict.fromkeys(("tx_ring_msgs", "tx_ring_bytes", "tx_net_msgs"), r)}
        for n, r in enumerate([1000.0, 500.0, None])
    ]
    line = summary(document(sockets=rated), paused=False)
    assert "ring 1.5k msg/s 1.5kB/s | net 1.5k msg/s" in line
