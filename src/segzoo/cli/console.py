"""Terminal output: answers on stdout; notes, errors and progress on stderr; tables that fold and never truncate."""

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

from segzoo.errors import printable, shown
from segzoo.formatting import MAX_CELL

_PIPE_WIDTH = 200
"""Width of a pipe or a log, in columns: tables there rarely need to fold."""

_UNLIMITED_WIDTH = 10_000
"""Wider than any table, in columns."""

_REPORT_SECONDS = 10.0
"""Seconds between progress lines if there is no terminal to draw a bar on."""

_MAX_ROWS = 200
"""Rows of names and values: more than a model has, but a file of a stranger may hold a million."""


def out() -> Console:
    """The console for answers, on stdout."""
    return _console(stderr=False)


def err() -> Console:
    """The console for everything else, on stderr."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    # Created on every call, because tests replace sys.stdout and the environment.
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE_WIDTH
    return console


def line(text: str | Text = "", style: str = "") -> None:
    """Prints one line to stdout, never wrapped, so that paths and code can be copied."""
    out().print(_safe(text), style=style or None, soft_wrap=True)


def title(text: str) -> None:
    """Prints a line in bold."""
    line(text, "bold")


def prose(text: str) -> None:
    """Prints a paragraph to stdout, wrapped at 100 columns or less."""
    _show(printable(" ".join(text.split())), min(out().width, 100))


def note(text: str | Text) -> None:
    """Prints one line to stderr."""
    err().print(_safe(text), soft_wrap=True)


def failure(path: Path, error: Exception) -> Text:
    """The line that reports one failed input; line breaks in the error become spaces."""
    return Text.assemble(("Failed: ", "bold red"), printable(f"{path}: {' '.join(str(error).split())}"))


def error(text: str) -> None:
    """Prints an error to stderr as one line; line breaks in the text become spaces."""
    err().print(Text.assemble(("Error: ", "bold red"), printable(" ".join(text.split()))), soft_wrap=True)


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[RenderableType]],
    right: Sequence[int] = (),
    optional: Sequence[int] = (),
    no_wrap: Sequence[int] = (),
) -> None:
    """Prints a table to stdout.

    Args:
        right: indices of right-aligned columns: numbers.
        optional: indices of columns to drop, in this order, until the others fit.
        no_wrap: indices of columns that are folded only if the table does not fit otherwise.
    """
    rows = [tuple(map(_cell, row)) for row in rows]
    kept = list(range(len(header)))
    rendered = _render(header, rows, kept, right, no_wrap)
    for index in optional:
        if _measure(rendered).maximum <= out().width:
            break
        kept.remove(index)
        rendered = _render(header, rows, kept, right, no_wrap)
    if _measure(rendered).minimum > out().width:  # rich would truncate the columns in no_wrap
        rendered = _render(header, rows, kept, right, ())
    _show(rendered)


def key_values(rows: Iterable[tuple[str, RenderableType]]) -> None:
    """Prints names and values side by side to stdout; of more than 200, the first 200 and the number of the others."""
    rows = list(rows)
    rest = len(rows) - _MAX_ROWS
    if rest > 0:
        rows[_MAX_ROWS:] = [("...", f"and {rest:,} more")]
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(style="cyan")
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*map(_cell, row))
    _show(grid)


def _safe(text: str | Text) -> str | Text:
    return printable(text) if isinstance(text, str) else text


def _cell(value: RenderableType) -> RenderableType:
    return shown(value, MAX_CELL) if isinstance(value, str) else value


def _render(
    header: Sequence[str],
    rows: Sequence[Sequence[RenderableType]],
    kept: Sequence[int],
    right: Sequence[int],
    no_wrap: Sequence[int],
) -> Table:
    rendered = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in kept:
        justify: JustifyMethod = "right" if column in right else "left"
        rendered.add_column(header[column], overflow="fold", justify=justify, no_wrap=column in no_wrap)
    for row in rows:
        rendered.add_row(*(row[column] for column in kept))
    return rendered


def _measure(rendered: Table) -> Measurement:
    """The minimum and maximum width of a table, in columns."""
    console = out()
    return Measurement.get(console, console.options.update(max_width=_UNLIMITED_WIDTH), rendered)


def _show(rendered: RenderableType, width: int | None = None) -> None:
    """Prints to stdout; if that is not a terminal, without the trailing spaces that rich adds."""
    console = out()
    if console.is_terminal:
        console.print(rendered, width=width)
        return
    with console.capture() as capture:
        console.print(rendered, width=width)
    console.file.write("".join(f"{text.rstrip()}\n" for text in capture.get().splitlines()))


def swatch(color: Sequence[int]) -> Text:
    """A patch of an RGB color, followed by its "#rrggbb" for output without colors."""
    return Text.assemble(("    ", f"on {hex_color(color)}"), f" {hex_color(color)}")


def hex_color(color: Iterable[int]) -> str:
    """Red, green and blue, 0-255, as "#rrggbb"."""
    return "#" + "".join(f"{value:02x}" for value in color)


def megabytes(size: int) -> str:
    """A file size in bytes as "26.7 MB", or "9.3 kB" below 0.1 MB."""
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"


def logits_difference(value: float) -> str:
    """The largest difference of logits, relative to the largest logit: "4.1e-07"."""
    return f"{value:.1e}"


def pixel_agreement(share: float) -> str:
    """A share of pixels, 0-1, in percent; "100 %" only if it is all of them."""
    text = f"{100 * share:.4f} %"
    return "100 %" if share == 1 else min(text, "99.9999 %") if text.startswith("100") else text


def display_path(path: Path) -> str:
    """A path for messages; a folder ends in a slash."""
    return f"{path}{os.sep}" if path.is_dir() else str(path)


class _Live:
    """Base class of progress that is drawn while a `with` block runs; `_live` is None without a terminal."""

    _live: Progress | None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


class Steps(_Live):
    """Shows the current step on stderr: a spinner with the elapsed time, or one line per step without a terminal.

    with Steps() as step:
        step("tracing")

    Args:
        lines: False prints nothing without a terminal, for steps that take a moment.
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
            self._live.update(self._task, description=printable(text))
        elif self._lines:
            self._console.print(f"{printable(text)} ...", soft_wrap=True)

    def warn(self, text: str) -> None:
        """Prints a warning above the spinner, as one line."""
        self._console.print(_warning(text), soft_wrap=True)


class Bar(_Live):
    """Shows the progress of a list on stderr: a bar with rate and time left, or a line every ten seconds.

    with Bar(len(images)) as bar:
        bar.advance()

    Args:
        total: number of items, or None if unknown.
        unit: plural noun for the items.
    """

    def __init__(self, total: int | None, unit: str = "images") -> None:
        self._console = err()
        self._total = total
        self._unit = unit
        self._done = 0
        self._start = self._last_report = time.perf_counter()
        self._live = None
        if self._console.is_terminal:
            columns = (TextColumn("Segmenting"), BarColumn(), MofNCompleteColumn(), _Rate(unit))
            left = (TextColumn("time left"), TimeRemainingColumn())
            self._live = Progress(*columns, *left, console=self._console, transient=True)
            self._task = self._live.add_task("", total=total)

    def advance(self) -> None:
        """Counts one more item as done."""
        self._done += 1
        if self._live is not None:
            self._live.advance(self._task)
            return
        now = time.perf_counter()
        # A video may hold more frames than its header says.
        known = self._total is not None and self._done <= self._total
        if now - self._last_report >= _REPORT_SECONDS and self._done != self._total:
            rate = self._done / (now - self._start)
            of = f" of {self._total}" if known else ""
            left = f", {((self._total or 0) - self._done) / rate:.0f} s left" if known else ""
            self.note(f"{self._done}{of}, {rate:.1f} {self._unit}/s{left}")
            self._last_report = now

    def note(self, text: str | Text) -> None:
        """Prints a line above the bar."""
        self._console.print(_safe(text), soft_wrap=True)


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self._unit}/s" if speed else "")


def _warning(text: str) -> Text:
    return Text.assemble(("Warning: ", "bold yellow"), (printable(text), "yellow"))


def interactive() -> bool:
    """Whether stdout is a terminal that shows colors."""
    return sys.stdout.isatty() and out().color_system in ("256", "truecolor", "windows")
