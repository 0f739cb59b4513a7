"""`segzoo doctor`: what running on a GPU needs, and what of it is here."""

import typer

from segzoo.cli import console


def doctor() -> None:
    """Prints what running on a GPU needs and what of it this machine has: the text for a bug report.

    Versions, the NVIDIA driver, the GPUs, and each CUDA library with the file it came from or the reason it did not
    load. The exit code is 1 if something stands against --device cuda; the last lines then say what to do.

      segzoo doctor
      segzoo doctor > report.txt
    """
    with console.Steps(lines=False) as step:
        step("looking at the driver and the libraries")
        from segzoo.inference import doctor as examine

        report = examine()
    console.line(str(report))
    if not report.ok:
        raise typer.Exit(1)
