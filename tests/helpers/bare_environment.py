"""Processes whose home, cache and temporary folders are new and empty, so that whatever is written there is noticed."""

import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

import segzoo

KEPT = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
"""Variables of this process that others get. Those of CI are not among them: they switch telemetry off."""

sends = pytest.mark.skipif(
    sys.platform != "linux" or tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 29),
    reason="this onnxruntime has no telemetry, or it writes other files",
)
"""For tests which show that telemetry would be noticed."""


class Folders:
    """Folders below `root`, and a runner of Python with an environment that has nothing else."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("home", "cache", "tmp", "work", "segzoo-cache"):
            (root / name).mkdir(parents=True)

    def environment(self, **more: str) -> dict[str, str]:
        home, cache, tmp = (str(self.root / name) for name in ("home", "cache", "tmp"))
        return {
            **{name: os.environ[name] for name in KEPT if name in os.environ},
            **{"HOME": home, "USERPROFILE": home, "APPDATA": home, "LOCALAPPDATA": cache, "XDG_CACHE_HOME": cache},
            **{"TMPDIR": tmp, "TMP": tmp, "TEMP": tmp, "SEGZOO_CACHE": str(self.root / "segzoo-cache")},
            **{"PYTHONPATH": str(Path(segzoo.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"},
            **more,
        }

    def python(
        self, script: str, *words: object, prefix: tuple[str, ...] = (), **more: str
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a script; `more` are further environment variables, `prefix` a command that runs Python."""
        return subprocess.run(
            [*prefix, sys.executable, "-c", script, *map(str, words)],
            env=self.environment(**more),
            cwd=self.root / "work",
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def written(self) -> list[str]:
        """All files and empty folders, relative to `root`, but for the folders that were there from the start."""
        paths = [path for path in self.root.rglob("*") if len(path.relative_to(self.root).parts) > 1]
        return sorted(
            path.relative_to(self.root).as_posix() for path in paths if not path.is_dir() or not any(path.iterdir())
        )
