"""The screen of `erg top`: three tables that follow the store, and keys that act on the row under the cursor.

All calls to the store go through one thread of their own, so the screen never waits for a server that does not answer; what
goes wrong there is said in the head line, and the next look tries again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, Literal, TypeVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static

from ergates.cli.tables import clean
from ergates.cli.top_lines import (
    JOB_COLUMNS,
    TASK_COLUMNS,
    WORKER_COLUMNS,
    job_cells,
    sparkline,
    summary,
    task_cells,
    worker_cells,
)
from ergates.cli.top_source import TopSource
from ergates.cli.top_state import ORDERS, Frame, Order, TopState
from ergates.clock import SystemClock
from ergates.cluster.node import WorkerOrders
from ergates.cluster.task import JobId, TaskId
from ergates.errors import ErgatesError

T = TypeVar("T")
_COLOURS = {
    "running": "green", "waiting": "yellow", "stopped": "yellow", "paused": "yellow", "failed": "red", "live": "green",
    "silent": "red", "condemned": "red", "reaped": "red",
}  # fmt: skip
_BARS = frozenset({"progress", "cores", "memory"})
_RIGHT = frozenset({"done", "of", "failed", "running", "rate", "for", "ended"})


class Confirm(ModalScreen[bool]):
    """A question that is answered with y or n."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No"),
    ]
    CSS = """
    Confirm { align: center middle; }
    #question { width: auto; max-width: 80%; height: auto; padding: 1 3; border: thick $warning; background: $surface; }
    """

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        yield Static(Text(f"{self._question}\n\n[y] yes   [n] no"), id="question")

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)


class TopScreen(App[None]):
    """Args: what to look at, how many seconds between two looks, whether finished jobs are shown at first."""

    TITLE = "erg top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 2; padding: 0 1; }
    #note { height: 1; padding: 0 1; color: $warning; }
    #tables { height: 1fr; }
    DataTable { height: auto; max-height: 40%; margin-bottom: 1; overflow-x: hidden; }
    #jobs { min-height: 4; }
    #filter { display: none; height: 3; }
    #filter.shown { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "phase('paused')", "Pause"),
        Binding("r", "phase('active')", "Resume"),
        Binding("c", "cancel", "Cancel"),
        Binding("d", "drain", "Drain"),
        Binding("s", "sort", "Sort"),
        Binding("f", "finished", "Finished"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("escape", "unfilter", "Clear", show=False),
        Binding("tab", "focus_next", "Next table", show=False),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),  # Textual would only show a hint
    ]

    def __init__(self, source: TopSource, *, interval_s: float = 1.0, finished: bool = True) -> None:
        super().__init__()
        self._source, self._interval_s = source, interval_s
        self._state = TopState()
        self._order: Order = "newest"
        self._text, self._finished = "", finished
        self._frame: Frame | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")

    # --- what is there ----------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Static(id="note")
        with Vertical(id="tables"):
            for name, columns in (("jobs", JOB_COLUMNS), ("workers", WORKER_COLUMNS), ("tasks", TASK_COLUMNS)):
                table: DataTable[Text] = DataTable(id=name, cursor_type="row", zebra_stripes=True)
                for column in columns:
                    table.add_column(Text(column, justify=_justify(column)), key=column)
                yield table
        yield Input(placeholder="only jobs, workers and tasks with this text", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        self._table("jobs").focus()
        self.run_worker(self._keep_looking(), exclusive=True)

    def on_unmount(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    # --- looking ----------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """Read the store once and show it."""
        try:
            look = await self._in_thread(self._source.look)
        except ErgatesError as error:
            self.query_one("#note", Static).update(Text(f"{str(error).splitlines()[0]}; trying again"))
            return
        if self._frame is None or str(self.query_one("#note", Static).content).endswith("trying again"):
            self.query_one("#note", Static).update("")
        self._state.observe(look)
        self.show_frame()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def show_frame(self) -> None:
        """Draw what is known with the order and filter of now."""
        frame = self._state.frame(order=self._order, text=self._text, finished=self._finished)
        if frame is None:
            return
        self._frame = frame
        width = max(10, min(60, self.size.width - 40))
        head = Text(summary(frame), no_wrap=True, overflow="ellipsis")
        head.append("\n" + sparkline(frame.bars, width), style="cyan")
        shown = [f"sorted by {self._order}"] if self._order != "newest" else []
        shown += [f"filter {self._text!r}"] if self._text else []
        shown += [f"{frame.hidden} jobs not shown"] if frame.hidden else []
        head.append(f" tasks settled in the last minutes   {', '.join(shown)}", style="dim")
        self.query_one("#head", Static).update(head)
        self._fill("jobs", JOB_COLUMNS, [(row.id, job_cells(row)) for row in frame.jobs])
        self._fill("workers", WORKER_COLUMNS, [(worker.info.id, worker_cells(worker)) for worker in frame.workers])
        self._fill("tasks", TASK_COLUMNS, [(row.name, task_cells(row)) for row in frame.tasks])

    def _fill(self, name: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Write the cells that changed; build the table anew only where its rows are others, and keep the cursor's."""
        table = self._table(name)
        keys = [key for key, _ in rows]
        if [row.key.value for row in table.ordered_rows] == keys:
            for key, cells in rows:
                for column, cell in zip(columns, cells, strict=True):
                    if table.get_cell(key, column).plain != clean(cell):
                        table.update_cell(key, column, _cell(column, cell), update_width=True)
            return
        chosen = self._chosen(name)
        table.clear()
        for key, cells in rows:
            table.add_row(*(_cell(column, cell) for column, cell in zip(columns, cells, strict=True)), key=key)
        if chosen in keys:
            table.move_cursor(row=keys.index(chosen))

    def _table(self, name: str) -> DataTable[Text]:
        return self.query_one(f"#{name}", DataTable)

    def _chosen(self, name: str) -> str | None:
        """The key of the row under the cursor."""
        table = self._table(name)
        rows = table.ordered_rows
        return rows[table.cursor_row].key.value if 0 <= table.cursor_row < len(rows) else None

    # --- keys -------------------------------------------------------------------------------------

    def action_sort(self) -> None:
        """The next order."""
        self._order = ORDERS[(ORDERS.index(self._order) + 1) % len(ORDERS)]
        self.show_frame()

    def action_finished(self) -> None:
        """Show finished jobs, or leave them out."""
        self._finished = not self._finished
        self.show_frame()

    def action_filter(self) -> None:
        """Ask for the text to filter by."""
        field = self.query_one("#filter", Input)
        field.add_class("shown")
        field.focus()

    def action_unfilter(self) -> None:
        """Show everything again."""
        self.query_one("#filter", Input).value = ""
        self._leave_filter()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._text = event.value
        self.show_frame()

    def on_input_submitted(self, _: Input.Submitted) -> None:
        self._leave_filter()

    def _leave_filter(self) -> None:
        self.query_one("#filter", Input).remove_class("shown")
        self._table("jobs").focus()

    def action_phase(self, phase: str) -> None:
        """Pause or resume the job under the cursor."""
        job = self._chosen("jobs")
        if job is not None:
            word = "paused" if phase == "paused" else "goes on"
            self._do(lambda: self._source.store.set_phase(JobId(job), phase, SystemClock().now_ns()), f"{job}: {word}")

    def action_cancel(self) -> None:
        """Cancel the job under the cursor, or, in the table of tasks, that task."""
        if self._table("tasks").has_focus:
            name = self._chosen("tasks")
            if name is None:
                return
            job, _, number = name.partition("/")
            task = TaskId(int(number))
            self._ask(
                f"Cancel task {name}?",
                lambda: self._source.store.cancel(
                    JobId(job), [(task, task)], "cancelled by the user", SystemClock().now_ns()
                ),
                f"{name}: cancelled",
            )
            return
        chosen = self._chosen("jobs")
        if chosen is not None:
            self._ask(
                f"Cancel job {chosen}, with all of its tasks that are not done?",
                lambda: self._source.store.set_phase(JobId(chosen), "cancelled", SystemClock().now_ns()),
                f"{chosen}: cancelled",
            )

    def action_drain(self) -> None:
        """Let the worker under the cursor end what runs and start nothing new."""
        worker = self._chosen("workers")
        order = getattr(self._source.store, "order", None)
        if worker is None or order is None:
            self._say(
                "a worker of this machine's own store is drained with Ctrl-C where it runs" if worker else "no worker"
            )
            return
        self._ask(
            f"Drain worker {worker[:8]}? What runs there may end.",
            lambda: order(worker, WorkerOrders(drain=True)),
            f"{worker[:8]}: drains",
        )

    def _ask(self, question: str, act: Callable[[], object], said: str) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self._do(act, said)

        self.push_screen(Confirm(question), answered)

    def _do(self, act: Callable[[], object], said: str) -> None:
        """Act in the store's thread, say what came of it, and look again."""

        async def perform() -> None:
            try:
                await self._in_thread(act)
            except ErgatesError as error:
                self._say(str(error).splitlines()[0])
            else:
                self._say(said)
            await self.look()

        self.run_worker(perform())

    def _say(self, text: str) -> None:
        self.query_one("#note", Static).update(Text(text))


def _cell(column: str, text: str) -> Text:
    style = _COLOURS.get(text, "") if column == "state" else "cyan" if column in _BARS else ""
    return Text(clean(text), style=style, justify=_justify(column), no_wrap=True)


def _justify(column: str) -> Literal["left", "right"]:
    return "right" if column in _RIGHT else "left"
