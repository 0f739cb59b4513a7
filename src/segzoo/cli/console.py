"""What the commands print with: two consoles, tables that fold and never cut, and progress."""

import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, JustifyMethod, RenderableType
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 200
"""Columns where nobody looks: a table in a pipe or a log is as wide as it needs to be."""

_UNBOUND = 10_000
"""Columns that no table needs."""

_QUIET_SECONDS = 10.0
"""How often a bar becomes a line where there is no terminal to draw it on."""


def out() -> Console:
    """The console of answers, on stdout."""
    return _console(stderr=False)


def err() -> Console:
    """The console of everything else, on stderr."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    # Made anew each time, since tests exchange sys.stdout and the environment.
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE_WIDTH
    return console


def line(text: str | Text = "", style: str = "") -> None:
    """Prints one line to stdout that is never broken: paths and code stay whole for copying."""
    out().print(text, style=style or None, soft_wrap=True)


def title(text: str) -> None:
    """Prints a line in bold."""
    line(text, "bold")


def prose(text: str) -> None:
    """Prints a paragraph to stdout, broken into lines of a length that can be read."""
    _show(" ".join(text.split()), min(out().width, 100))


def note(text: str | Text) -> None:
    """Prints one line to stderr."""
    err().print(text, soft_wrap=True)


def failed(path: Path, error: Exception) -> Text:
    """What is said of one input while the others go on: one line, whatever the error quotes."""
    return Text.assemble(("Failed: ", "bold red"), f"{path}: {' '.join(str(error).split())}")


def error(text: str) -> None:
    """Prints an error to stderr, as one line whatever it quotes."""
    err().print(Text.assemble(("Error: ", "bold red"), " ".join(text.split())), soft_wrap=True)


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[RenderableType]],
    right: Sequence[int] = (),
    spare: Sequence[int] = (),
    whole: Sequence[int] = (),
) -> None:
    """Prints a table to stdout.

    Args:
        right: columns to be set flush right: numbers.
        spare: columns to be left out, the first first, until there is room for the others.
        whole: columns that are folded last of all.
    """
    rows = [tuple(row) for row in rows]
    kept = list(range(len(head)))
    drawn = _drawn(head, rows, kept, right, whole)
    for index in spare:
        if _measure(drawn).maximum <= out().width:
            break
        kept.remove(index)
        drawn = _drawn(head, rows, kept, right, whole)
    if _measure(drawn).minimum > out().width:  # rich would cut what may not be folded
        drawn = _drawn(head, rows, kept, right, ())
    _show(drawn)


def facts(rows: Iterable[tuple[str, RenderableType]]) -> None:
    """Prints names and values side by side to stdout."""
    drawn = Table.grid(padding=(0, 3, 0, 0))
    drawn.add_column(style="cyan")
    drawn.add_column(overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    _show(drawn)


def _drawn(
    head: Sequence[str],
    rows: Sequence[Sequence[RenderableType]],
    kept: Sequence[int],
    right: Sequence[int],
    whole: Sequence[int],
) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in kept:
        side: JustifyMethod = "right" if column in right else "left"
        drawn.add_column(head[column], overflow="fold", justify=side, no_wrap=column in whole)
    for row in rows:
        drawn.add_row(*(row[column] for column in kept))
    return drawn


def _measure(drawn: Table) -> Measurement:
    """The columns that it could do with, and those that it would fill."""
    console = out()
    return Measurement.get(console, console.options.update(max_width=_UNBOUND), drawn)


def _show(drawn: RenderableType, width: int | None = None) -> None:
    """Prints it; where there is no terminal, without the blanks that rich leaves at the ends of lines."""
    console = out()
    if console.is_terminal:
        console.print(drawn, width=width)
        return
    with console.capture() as held:
        console.print(drawn, width=width)
    console.file.write("".join(f"{one.rstrip()}\n" for one in held.get().splitlines()))


def swatch(colour: Sequence[int]) -> Text:
    """A colour as a user sees it, and as "#rrggbb" where colours are not shown."""
    return Text.assemble(("    ", f"on {code(colour)}"), f" {code(colour)}")


def code(colour: Iterable[int]) -> str:
    """Red, green and blue, 0-255, as "#rrggbb"."""
    return "#" + "".join(f"{part:02x}" for part in colour)


def megabytes(size: int) -> str:
    """A file's size: "26.7 MB"."""
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"


def shown(path: Path) -> str:
    """A path as the user would write it, with a slash after a folder's name."""
    return f"{path}{os.sep}" if path.is_dir() else str(path)


class _Live:
    """What is drawn while a `with` block runs, in a terminal; `_live` is None where there is none. Abstract."""

    _live: Progress | None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


class Steps(_Live):
    """Tells on stderr what is being done: a spinner with the time gone by, or a line a step where there is no terminal.

    with Steps() as step:
        step("tracing")

    Args:
        lines: False says nothing where there is no terminal: for what takes a moment.
    """

    def __init__(self, lines: bool = True) -> None:
        self._console = err()
        self._lines = lines
        self._live = None
        if self._console.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
            self._live = Progress(*columns, console=self._console, transient=True)
            self._task = self._live.add_task("")

    def __call__(self, text: str) -> None:
        if self._live is not None:
            self._live.update(self._task, description=text)
        elif self._lines:
            self._console.print(f"{text} ...", soft_wrap=True)

    def warn(self, text: str) -> None:
        """Prints one line that is meant to be seen above the spinner."""
        self._console.print(_warning(text), soft_wrap=True)


class Bar(_Live):
    """How far a list of images is, on stderr: a bar with the rate and the time left, or a line every ten seconds.

    with Bar(len(images)) as bar:
        bar.advance()

    Args:
        total: how many there are, or None where nobody knows.
        unit: what they are.
    """

    def __init__(self, total: int | None, unit: str = "images") -> None:
        self._console = err()
        self._total = total
        self._unit = unit
        self._done = 0
        self._start = self._told = time.perf_counter()
        self._live = None
        if self._console.is_terminal:
            columns = (TextColumn("Segmenting"), BarColumn(), MofNCompleteColumn(), _Rate(unit))
            left = (TextColumn("time left"), TimeRemainingColumn())
            self._live = Progress(*columns, *left, console=self._console, transient=True)
            self._task = self._live.add_task("", total=total)

    def advance(self) -> None:
        """One more is done."""
        self._done += 1
        if self._live is not None:
            self._live.advance(self._task)
            return
        now = time.perf_counter()
        # What a video says of its length may be less than what comes.
        known = self._total is not None and self._done <= self._total
        if now - self._told >= _QUIET_SECONDS and self._done != self._total:
            rate = self._done / (now - self._start)
            of = f" of {self._total}" if known else ""
            left = f", {((self._total or 0) - self._done) / rate:.0f} s left" if known else ""
            self.note(f"{self._done}{of}, {rate:.1f} {self._unit}/s{left}")
            self._told = now

    def note(self, text: str | Text) -> None:
        """Prints a line above the bar."""
        self._console.print(text, soft_wrap=True)


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self._unit}/s" if speed else "")


def _warning(text: str) -> Text:
    return Text.assemble(("Warning: ", "bold yellow"), (text, "yellow"))


def interactive() -> bool:
    """Whether stdout is a terminal that shows colours."""
    return sys.stdout.isatty() and out().color_system in ("256", "truecolor", "windows")
