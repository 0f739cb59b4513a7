"""`segzoo predict` uses no network and writes nothing but its masks, in Python and in native code.

It runs with a new home, cache and temporary folder. Python's audit events show every use of a socket in Python.
Native code is watched by the files that it leaves and, where strace is installed, by its system calls.
"""

import functools
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from bare_environment import Folders, sends
from PIL import Image

COUNT = 50

AUDITED = """
import sys

def refuse(event, arguments):
    if event.startswith("socket.") and event != "socket.__new__":
        sys.stderr.write(f"{event} {arguments}\\n")
        raise SystemExit(9)

sys.addaudithook(refuse)
"""
PREDICT = "from segzoo.cli import main; main()"


@functools.cache
def has_strace() -> bool:
    return shutil.which("strace") is not None and not subprocess.run(["strace", "-o", "/dev/null", "true"]).returncode


class Traced:
    """What the system calls of a process and its threads say, if there is strace."""

    def __init__(self, path: Path) -> None:
        self.path = path
        calls = "trace=socket,connect,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2"
        self.prefix = ("strace", "-f", "-qq", "-e", calls, "-o", str(path)) if has_strace() else ()

    def lines(self) -> list[str]:
        return self.path.read_text(errors="replace").splitlines() if self.prefix else []

    def internet(self) -> list[str]:
        """Calls with an address of the internet, or of a name server."""
        return [line for line in self.lines() if "AF_INET" in line]

    def written(self) -> set[Path]:
        """Files that were opened for writing, and folders that were created."""
        pattern = re.compile(r'(?:open\w*|creat|mkdir\w*)\((?:AT_FDCWD, )?"([^"]+)"(.*)')
        found = set()
        for match in filter(None, map(pattern.search, self.lines())):
            writes = re.search(r"O_CREAT|O_WRONLY|O_RDWR", match[2]) or "mkdir" in match[0] or "creat(" in match[0]
            if writes and " = -1 " not in match[2]:
                found.add(Path(match[1]))
        return found


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path / "process")
    photos = made.root / "work" / "photos"
    photos.mkdir()
    for number in range(COUNT):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number:02}.png")
    return made


def predict(folders: Folders, model: Path, script: str = PREDICT, **variables: str) -> Traced:
    """Runs the command, and checks that it has written all masks."""
    traced = Traced(folders.root.parent / "trace.txt")
    words = ("predict", model, "photos", "-o", "masks", "--device", "cpu")
    done = folders.python(AUDITED + script, *words, prefix=traced.prefix, **variables)
    assert done.returncode == 0, done.stderr
    assert len(list((folders.root / "work" / "masks").iterdir())) == COUNT
    return traced


def left(folders: Folders) -> list[str]:
    """What is there besides the images and the masks."""
    return [path for path in folders.written() if not path.startswith(("work/photos/", "work/masks/"))]


def test_predict_uses_no_network_and_writes_masks_only(folders: Folders, exported: tuple[object, Path]) -> None:
    traced = predict(folders, exported[1])
    assert left(folders) == []
    assert traced.internet() == []
    others = {path for path in traced.written() if path.parts[0] != "masks"}
    assert bool(traced.written() - others) == bool(traced.prefix)  # the masks were seen
    assert {path for path in others if path.parts[:2] not in (("/", "dev"), ("/", "proc"))} == set()


@sends
@pytest.mark.parametrize(
    ("script", "variables"),
    [(PREDICT, {"ORT_DISABLE_TELEMETRY": "0"}), ("import onnxruntime\n" + PREDICT, {})],
    ids=["wanted by the user", "imported before segzoo"],
)
def test_the_same_run_with_telemetry_is_noticed(
    folders: Folders, exported: tuple[object, Path], script: str, variables: dict[str, str]
) -> None:
    traced = predict(folders, exported[1], script, **variables)
    names = {Path(path).name for path in left(folders)}
    assert {"onnxruntime.db", "deviceid"} <= names
    if traced.prefix:
        assert "onnxruntime.db" in {path.name for path in traced.written()}


LOOKUP = "import ctypes; ctypes.CDLL(None).gethostbyname(b'segzoo.invalid')"


@pytest.mark.skipif(not has_strace(), reason="strace is not installed or not permitted")
def test_a_native_lookup_is_noticed(folders: Folders) -> None:
    traced = Traced(folders.root.parent / "trace.txt")
    assert folders.python(AUDITED + LOOKUP, prefix=traced.prefix).returncode == 0
    assert traced.internet()


@pytest.mark.parametrize(
    "line",
    [
        "socket.getaddrinfo('segzoo.invalid', 443)",
        "socket.gethostbyname('segzoo.invalid')",
        "socket.socket().connect(('127.0.0.1', 9))",
        "urllib.request.urlopen('https://segzoo.invalid')",
    ],
)
def test_a_lookup_in_python_is_noticed(folders: Folders, line: str) -> None:
    done = folders.python(f"{AUDITED}\nimport socket, urllib.request\n{line}")
    assert done.returncode == 9
    assert done.stderr.startswith("socket.")


@pytest.mark.slow
@sends
@pytest.mark.skipif(not has_strace(), reason="strace is not installed or not permitted")
@pytest.mark.parametrize("variables", [{}, {"ORT_DISABLE_TELEMETRY": "0"}], ids=["segzoo", "telemetry"])
def test_a_process_that_keeps_running_uses_no_network(
    folders: Folders, exported: tuple[object, Path], variables: dict[str, str]
) -> None:
    """onnxruntime's first upload comes up to ten seconds after the import, and not at all if the process has ended."""
    keep = "import atexit, time; atexit.register(time.sleep, 20)\n"
    traced = predict(folders, exported[1], keep + PREDICT, **variables)
    assert bool(traced.internet()) == bool(variables)
