"""The recipes that ship with segzoo, by name."""

from pathlib import Path

from segzoo.errors import unknown

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The names of all recipes, sorted."""
    return sorted(file.stem for file in _FOLDER.glob("*.toml"))


def path(name: str) -> Path:
    """The file of a recipe.

    Raises:
        UnknownNameError: an unknown name.
    """
    if name not in names():
        raise unknown("recipe", name, names(), f"Recipes are {', '.join(names())}; or pass the path of a .toml file.")
    return _FOLDER / f"{name}.toml"
