"""Chooses the files of segmentation-zoo-runtime: all of src/segzoo but what segmentation-zoo lists as its own."""

import tomllib
from pathlib import Path
from typing import Any

import pathspec
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def files(root: Path) -> dict[Path, str]:
    """The runtime's files, and their paths below the folder of the package.

    Args:
        root: the folder of this file: of a clone, whose folder src is next to it, or of an unpacked sdist, which holds
            only the runtime's files.
    """
    unpacked = root / "src"
    if unpacked.is_dir():
        return {path: path.relative_to(unpacked).as_posix() for path in sources(unpacked)}
    clone = root.parent
    project = tomllib.loads((clone / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]
    others = pathspec.GitIgnoreSpec.from_lines(patterns)
    found = {path: path.relative_to(clone).as_posix() for path in sources(clone / "src")}
    return {path: name.removeprefix("src/") for path, name in found.items() if not others.match_file(name)}


def sources(folder: Path) -> list[Path]:
    """All files below a folder, in order, without compiled ones and those that tools leave there."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("~"))
    return sorted(
        path for path in files if not any(part == "__pycache__" or part[0] == "." for part in _below(path, folder))
    )


def _below(path: Path, folder: Path) -> tuple[str, ...]:
    return path.relative_to(folder).parts


class RuntimeFiles(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the files to the sdist and to the wheel. An editable installation has all of src instead."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        prefix = "src/" if self.target_name == "sdist" else ""
        for path, name in files(Path(self.root)).items():
            build_data["force_include"][str(path)] = prefix + name
