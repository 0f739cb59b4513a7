"""Makes a process behave as if only segmentation-zoo-runtime were installed, by hiding what the other one adds.

`nox -s build` checks the same with the real wheel in an empty environment.
"""

import importlib.util
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnxscript", "scipy", "huggingface_hub", "lightning_fabric", "av")
"""What comes with extras, or with segmentation-zoo."""


def absent() -> tuple[str, ...]:
    """The modules and packages that the runtime lacks."""
    files = tomllib.loads(PROJECT.read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]
    modules = [file.removeprefix("/src/").removesuffix(".py").strip("/") for file in files if "*" not in file]
    return (*(module.replace("/", ".") for module in modules), *PACKAGES)


class Hidden:
    """Finds no module that is hidden."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def hide() -> None:
    """Hides them from now on."""
    names, find_spec = absent(), importlib.util.find_spec
    sys.meta_path.insert(0, Hidden(names))  # type: ignore[arg-type]
    # What is really not there is None for this function, and no error.
    importlib.util.find_spec = lambda name, package=None: None if name in names else find_spec(name, package)
