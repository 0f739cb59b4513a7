"""A progress bar for downloads on stderr, with size, speed and time left. Nothing is drawn outside a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[int, int | None], None]
"""Takes the bytes received so far and the file's total bytes; None if the total is unknown."""


@contextmanager
def progress(name: str) -> Iterator[Report]:
    """Yields the function to which a download reports; the bar is removed at the end."""
    from rich.console import Console
    from rich.errors import LiveError
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)
    try:
        bar.start()
    except LiveError:  # the calling program already draws a live display
        bar.disable = True
    task = bar.add_task(name, total=None)
    try:
        yield lambda done, total: bar.update(task, completed=done, total=total)
    finally:
        if not bar.disable:
            bar.stop()
