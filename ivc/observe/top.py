# SPDX-License-Identifier: Apache-2.0
"""The full screen of `ivc top`: a controller's status, looked at again and again.

Only `ivc top` imports this, and with it `textual`.
"""

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final

from rich.cells import cell_len
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.coordinate import Coordinate
from textual.css.query import NoMatches
from textual.widgets import DataTable, Footer, Static, Tab, Tabs

from ivc.controller.rates import with_rates
from ivc.controller.tables import TABLES, Cell, Column, Row, Table, scaled
from ivc.errors import IvcError

Document = dict[str, Any]

_COLOURS: Final = {"direct": "#00b886", "relay": "#56b4e9"}
"""Of paths, as in the pictures of a plan, but for a dark screen; what else there is has none."""


MARKS: Final = ("▲", "▼")
"""Behind the title of the column that is sorted by: from the smallest on, from the largest."""


class Top(App[None]):
    """Shows what `read` gives, every so many seconds. It may be slow, or raise `IvcError`."""

    TITLE = "ivc top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #summary { height: auto; padding: 0 1; text-style: bold; }
    #trouble { height: auto; padding: 0 1; color: $error; display: none; }
    Tabs { height: 2; }
    DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("p,space", "pause", "Pause"),
        Binding("s", "sort(1)", "Sort"),
        Binding("S", "sort(-1)", show=False),
        Binding("r", "reverse", "Reverse"),
        Binding("tab", "turn(1)", "Next", priority=True),
        Binding("shift+tab", "turn(-1)", show=False, priority=True),
        *(
            Binding(str(number), f"table('{name}')", show=False)
            for number, name in enumerate(TABLES, start=1)
        ),
    ]

    def __init__(self, read: Callable[[], Document], every: float) -> None:
        super().__init__()
        self._read = read
        self._every = every
        self._document: Document | None = None
        self._shown: Table | None = None
        self._paused = False
        self._sorted: dict[str, tuple[int, bool]] = {}

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        with Vertical():
            yield Static(id="summary", markup=False)
            yield Static(id="trouble", markup=False)
            yield Tabs(*(Tab(f"{n} {name}", id=name) for n, name in enumerate(TABLES, start=1)))
            yield DataTable(cursor_type="row", zebra_stripes=True, cell_padding=0)
            yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        # Left by the signal's own doing, the terminal would stay as the screen needs it.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit)
        self.query_one(DataTable).focus()
        self.run_worker(self._watch())

    async def _watch(self) -> None:
        """The controller is asked in another thread: keys are heard also if it does not answer."""
        with suppress(NoMatches):  # the screen is being left
            while True:
                if not self._paused:
                    self._tell(await self._look())
                    self._show()
                await asyncio.sleep(self._every)

    async def _look(self) -> str:
        """What kept the controller from answering, if anything."""
        try:
            document = await asyncio.to_thread(self._read)
        except IvcError as error:
            return str(error)
        if not self._paused:  # as it may be by now
            self._document = with_rates(self._document, document)
        return ""

    # ---- keys

    def action_pause(self) -> None:
        """Stay with what is shown, or go on."""
        self._paused = not self._paused
        self._show()

    def action_sort(self, step: int) -> None:
        """Sort by the next column, or the one before: numbers from the largest on."""
        if self._shown is not None:
            at = (self._sorted[self._shown.name][0] + step) % len(self._shown.columns)
            self._sorted[self._shown.name] = at, self._shown.columns[at].is_number
            self._show()

    def action_reverse(self) -> None:
        """Sort the other way round."""
        if self._shown is not None:
            column, reverse = self._sorted[self._shown.name]
            self._sorted[self._shown.name] = column, not reverse
            self._show()

    def action_turn(self, step: int) -> None:
        """Show the next table, or the one before."""
        names = list(TABLES)
        self.action_table(names[(names.index(self._chosen) + step) % len(names)])

    def action_table(self, name: str) -> None:
        """Show one of the tables."""
        self.query_one(Tabs).active = name

    def on_tabs_tab_activated(self) -> None:
        """Another table is wanted: by a key, or by a click."""
        self._show()

    # ---- what is shown

    @property
    def _chosen(self) -> str:
        return self.query_one(Tabs).active or next(iter(TABLES))

    def _tell(self, trouble: str) -> None:
        told = self.query_one("#trouble", Static)
        told.update(trouble)
        told.display = bool(trouble)

    def _show(self) -> None:
        if self._document is None:
            return
        self.query_one("#summary", Static).update(summary(self._document, self._paused))
        table = TABLES[self._chosen](self._document)
        column, reverse = self._sorted.setdefault(table.name, at_first(table))
        rows = sorted(table.rows, key=lambda row: _comparable(row[column]), reverse=reverse)
        self._fill(Table(table.name, table.columns, tuple(rows)), column, reverse)

    def _fill(self, table: Table, column: int, reverse: bool) -> None:
        """Anew, with cursor and view where they were."""
        widget: DataTable[Text] = self.query_one(DataTable)
        same = self._shown is not None and self._shown.name == table.name
        cursor, x, y = widget.cursor_row, widget.scroll_x, widget.scroll_y
        # Left alone the widget finds out widths later, and draws twice.
        widths = widths_of(table)
        with self.batch_update():
            widget.clear(columns=True)
            for number, (one, width) in enumerate(zip(table.columns, widths, strict=True)):
                mark = MARKS[reverse] if number == column else ""
                widget.add_column(_cell(one.title + mark, one, width), width=width)
            for row, texts in zip(table.rows, table.written(), strict=True):
                widget.add_row(*_cells(table, widths, row, texts))
            if same and table.rows:
                widget.cursor_coordinate = Coordinate(min(cursor, len(table.rows) - 1), 0)
                widget.scroll_to(x, y, animate=False)
        self._shown = table


def summary(document: Document, paused: bool) -> str:
    """One line about all of it."""
    controller, sockets = document["controller"], document["sockets"]
    on_rings = sum(one["path"] != "network" for one in sockets)
    parts = [
        f"controller {controller['pid']}, {controller['path']}",
        f"processes {len(document['processes'])}",
        f"sockets {on_rings} of {len(sockets)} on rings",
        f"flows {len(document['flows'])}",
        f"ring {scaled(_total(sockets, 'tx_ring_msgs'))} msg/s "
        f"{scaled(_total(sockets, 'tx_ring_bytes'))}B/s",
        f"net {scaled(_total(sockets, 'tx_net_msgs'))} msg/s",
    ]
    return " | ".join([*(["PAUSED"] if paused else []), *parts])


def _total(sockets: list[Document], counter: str) -> float:
    """Of what has a rate."""
    return sum(one["rates"][counter] or 0 for one in sockets)


def _comparable(cell: Cell) -> tuple[int, float, str]:
    """Nothing before numbers before names."""
    if cell is None:
        return 0, 0.0, ""
    return (1, cell, "") if isinstance(cell, int | float) else (2, 0.0, cell)


def at_first(table: Table) -> tuple[int, bool]:
    """The column to sort by, and whether from the largest on: the busiest, where that is known."""
    rates = [n for n, column in enumerate(table.columns) if column.title.endswith("B/s")]
    return (rates[0], True) if rates else (0, False)


def widths_of(table: Table) -> list[int]:
    """Of each column, with room for the mark behind its title, and for a gap."""
    titles = [column.title for column in table.columns]
    return [max(map(cell_len, column)) + 2 for column in zip(titles, *table.written(), strict=True)]


def _cells(table: Table, widths: Sequence[int], row: Row, texts: Sequence[str]) -> list[Text]:
    """Names are text, never markup."""
    return [
        _cell(text, column, width, _style(column, value))
        for column, width, value, text in zip(table.columns, widths, row, texts, strict=True)
    ]


def _style(column: Column, value: Cell) -> str:
    return _COLOURS.get(str(value), "") if column.title == "path" else ""


def _cell(text: str, column: Column, width: int, style: str = "") -> Text:
    """Numbers end below each other, where the title ends."""
    text += " " if text.endswith(MARKS) else "  "
    return Text(text.rjust(width) if column.is_number else text.rstrip(), style=style)
