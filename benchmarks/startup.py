"""The time from pressing return to the end of a command: `nox -s bench-startup`.

The commands that need no torch, compared with the least that anyone can do: starting Python with onnxruntime, and
reading a photograph, creating a session and running it by hand. Each is a new process; they take turns, and the table
shows medians and their ratios to the import of onnxruntime.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from compare import machine
from segzoo.data.sample import PHOTOGRAPH
from segzoo.weights.catalog import default

BY_HAND = """
import numpy, onnxruntime, sys
from PIL import Image
image = numpy.asarray(Image.open(sys.argv[2]).convert("RGB"))[None]
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
session.run(["mask"], {"image": image})
"""


def commands(model: Path, masks: Path) -> dict[str, list[str]]:
    """The command lines by name, the ones to compare with first."""
    segzoo = [sys.executable, "-m", "segzoo"]
    predict = ["predict", str(model), str(PHOTOGRAPH), "-o", str(masks), "--force", "--device", "cpu"]
    return {
        "import onnxruntime": [sys.executable, "-c", "import onnxruntime"],
        "session and run by hand": [sys.executable, "-c", BY_HAND, str(model), str(PHOTOGRAPH)],
        "segzoo --help": [*segzoo, "--help"],
        "segzoo list": [*segzoo, "list"],
        "segzoo info unet": [*segzoo, "info", "unet"],
        "segzoo info MODEL.onnx": [*segzoo, "info", str(model)],
        "segzoo predict MODEL.onnx PHOTO": [*segzoo, *predict],
    }


def measure(words: list[str]) -> float:
    """Seconds that a process takes."""
    start = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True, env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"})
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9, help="of each command (%(default)s)")
    options = parser.parse_args()
    entry = default()
    assert entry is not None and entry.exported is not None
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        words = commands(entry.exported.path, Path(folder, "masks"))
        for line in words.values():
            measure(line)  # files are then in the system's cache
        turns = track(range(options.runs), "measuring", console=console, transient=True)
        times = [{name: measure(line) for name, line in words.items()} for _ in turns]
    medians = {name: statistics.median(turn[name] for turn in times) for name in words}
    console.print(", ".join(f"{name} {value}" for name, value in machine().items()))
    table = Table("process", "ms", "ratio", "ms beyond by hand")
    by_hand = medians["session and run by hand"]
    for name, seconds in medians.items():
        beyond = f"{1e3 * (seconds - by_hand):.0f}" if "predict" in name else ""
        table.add_row(name, f"{1e3 * seconds:.0f}", f"{seconds / medians['import onnxruntime']:.2f}", beyond)
    console.print(table)


if __name__ == "__main__":
    main()
