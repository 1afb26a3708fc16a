"""The live view of the demo: tills, what is not at the centre yet, balances, what just happened."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from protocols.money import format_yuan
from sim.campus.campus import Campus
from sim.demo.lunch import Tally

REFRESH_PER_S = 4


class View:
    """Draws the campus as it is now, a few times a second."""

    def __init__(self, campus: Campus, tally: Tally, console: Console) -> None:
        self._campus = campus
        self._tally = tally
        self._live = Live(
            get_renderable=self._draw,
            console=console,
            refresh_per_second=REFRESH_PER_S,
            transient=False,
        )

    def __enter__(self) -> View:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _draw(self) -> RenderableType:
        link = "联网 up" if self._campus.cutter.up else "断网 cut"
        return Group(
            Panel(self._tills(), title=f"食堂 canteen · {link}"),
            Panel(self._books(), title="账 the books"),
            Panel("\n".join(self._tally.events) or "…", title="经过 what happens"),
        )

    def _tills(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for text in ("till", "顾客屏 customer", "操作屏 operator", "未上传 unsynced"):
            table.add_column(text)
        table.add_row("till", "顾客屏 customer", "操作屏 operator", "未上传 unsynced", style="dim")
        unsynced = self._campus.unsynced()
        for name, till in self._campus.tills.items():
            shown = till.terminal.latest
            alive = "" if till.terminal.alive else " ✗"
            customer = " ".join(shown.customer[:2]) if shown is not None else "…"
            operator = shown.operator[0] if shown is not None and shown.operator else "…"
            table.add_row(name + alive, customer, operator, str(unsynced.get(name, 0)))
        return table

    def _books(self) -> Table:
        books = self._campus.books()
        table = Table.grid(padding=(0, 2))
        rows = {**books.balances, "purses": books.purses_fen, "wallets": books.wallets_fen}
        for account, fen in rows.items():
            table.add_row(account, f"{format_yuan(fen)} 元")
        table.add_row("in doubt 未决", f"{books.open_doubts} · settled {books.resolved_doubts}")
        return table
