"""`segzoo doctor`: checks what GPU inference needs on this machine."""

import typer

from segzoo.cli import console


def doctor() -> None:
    """Check this machine for everything that GPU inference needs.

    Prints versions, the NVIDIA driver, the GPUs, and each CUDA library with its path or the reason why it did not load;
    paste this into bug reports. If --device cuda cannot work, the exit code is 1 and the last lines say what to do.

    Examples:

      segzoo doctor
      segzoo doctor > report.txt
    """
    with console.Steps(lines=False) as step:
        step("checking the driver and the libraries")
        from segzoo.inference import doctor as diagnose

        report = diagnose()
    console.line(str(report))
    if not report.ok:
        raise typer.Exit(1)
