"""How far a download is, on stderr: a bar with size, speed and the time left, in a terminal; else nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[int, int | None], None]
"""Takes the bytes that are there, and the bytes of the whole, None where that is not known."""


@contextmanager
def progress(name: str) -> Iterator[Report]:
    """Gives what a download reports to; the bar is gone at the end."""
    from rich.console import Console
    from rich.errors import LiveError
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)
    try:
        bar.start()
    except LiveError:  # the program that loads the model draws a bar of its own
        bar.disable = True
    task = bar.add_task(name, total=None)
    try:
        yield lambda done, total: bar.update(task, completed=done, total=total)
    finally:
        if not bar.disable:
            bar.stop()
