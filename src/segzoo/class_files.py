"""Class sets from files, and whatever else an argument `classes` may be."""

import os
import re
from pathlib import Path
from typing import Any

from segzoo._arguments import explained
from segzoo._io import similar_paths
from segzoo._text import load_json, read_text
from segzoo.classes import CLASS_SETS, MAX_CLASSES, ClassSet, Color
from segzoo.errors import OptionError, did_you_mean, quoted, unknown

ClassesLike = str | os.PathLike[str] | ClassSet
"""A class set, the name of one, or the path of a file for `read_classes`."""

_SUFFIXES = (".json", ".txt", ".names", "")
_COLOR = re.compile("[0-9a-fA-F]{6}")


@explained
def resolve_classes(classes: ClassesLike | None) -> ClassSet | None:
    """The class set that an argument `classes` stands for.

    Args:
        classes: a class set; the name of one, such as "camvid"; the path of a file for `read_classes`; or None. A
            string is a path if it has a suffix or a folder, or if there is a file of that name.

    Raises:
        UnknownNameError: there is no class set of that name, and no file.
        OptionError: it is something else, or the file is missing or holds no class set.
    """
    given: Any = classes
    if given is None or isinstance(given, ClassSet):
        return given
    if not isinstance(given, str | os.PathLike):
        raise OptionError(
            f"classes must be the name of a class set, the path of a file or a segzoo.ClassSet, not {quoted(given)}."
        )
    path = Path(given)
    if isinstance(given, str):
        if given in CLASS_SETS:
            return CLASS_SETS[given]
        if not path.suffix and len(path.parts) < 2 and not path.is_file():
            hint = f"The class sets are: {', '.join(CLASS_SETS)}. For a file of names, pass its path, as labels.txt."
            raise unknown("class set", given, CLASS_SETS, hint)
    return read_classes(path)


@explained
def read_classes(path: str | os.PathLike[str]) -> ClassSet:
    """The class set that a file holds.

    A .txt or .names file has one class name per line, in the order of the ids; empty lines and lines that begin with #
    are skipped. A name may be followed by its color: "road, #804080" (comma or tab). Without colors, the palette is
    that of `ClassSet.generic`. A text file sets no `ignore_index`.

    A .json file holds {"names": [...], "palette": [[128, 64, 128], ...], "ignore_index": 255}, as `ClassSet.to_dict`
    and the classes.json of a data set; the last two may be left out.

    Raises:
        OptionError: the file is missing, is not UTF-8, is larger than 16 MiB or has another suffix; or its names and
            colors are not those of a class set: none, too many, twice the same.
    """
    path = Path(path)
    if path.is_dir():
        raise OptionError(f"{path} is a folder. Name the file in it that lists the classes.")
    if not path.exists():
        raise OptionError(f"There is no file {path}.{did_you_mean(similar_paths(path))} Check the path.")
    if path.suffix.lower() not in _SUFFIXES:
        raise OptionError(f"{path} must be a .txt file with one class name per line, or a .json file with names.")
    try:
        text = read_text(path)
        return _from_json(text) if path.suffix.lower() == ".json" else _from_lines(text)
    except OSError as error:
        raise OptionError(f"{path} cannot be read: {error.strerror}. Change its permissions.") from error
    except UnicodeDecodeError as error:
        raise OptionError(f"{path} is not UTF-8: {error.reason} at byte {error.start:,}. Save it as UTF-8.") from error
    except ValueError as error:  # OptionError is one too
        raise OptionError(f"{path} does not describe a class set: {error}") from error


def _from_json(text: str) -> ClassSet:
    record = load_json(text.removeprefix("\ufeff"))
    if isinstance(record, dict) and isinstance(record.get("names"), list) and record.get("palette") is None:
        record = record | {"palette": list(_palette(len(record["names"])))}
    return ClassSet.from_dict(record)


def _from_lines(text: str) -> ClassSet:
    names: list[str] = []
    colors: list[Color] = []
    without_color = None
    # Not splitlines, which splits at a form feed too, and so would shift the ids.
    for number, line in enumerate(re.split("\r\n|\r|\n", text.removeprefix("\ufeff")), 1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        start, _, color = name.rpartition("#")
        start = start.rstrip(" ")
        if start.endswith((",", "\t")) and _COLOR.fullmatch(color):
            name = start[:-1].rstrip()
            red, green, blue = bytes.fromhex(color)
            colors.append((red, green, blue))
        elif without_color is None:
            without_color = f"line {number}, {quoted(name)}"
        names.append(name)
        if len(names) > MAX_CLASSES:
            raise OptionError(f"it names more than {MAX_CLASSES:,} classes.")
    if colors and without_color is not None:
        raise OptionError(f"{without_color}, has no color, and others do. Give every class a color, or none.")
    return ClassSet(tuple(names), tuple(colors) or _palette(len(names)))


def _palette(count: int) -> tuple[Color, ...]:
    """The colors of `ClassSet.generic`; none for a number of classes that no class set has, which it says itself."""
    return ClassSet.generic(count).palette if 1 <= count <= MAX_CLASSES else ()
