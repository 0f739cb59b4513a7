"""What a file that is handed on says of a model's training: the recipe, without folders and secrets of this machine."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_KEY = r"[a-z0-9_]+/[A-Za-z0-9_][A-Za-z0-9_.]*/[a-z0-9_][a-z0-9_-]*"
_PATH = re.compile(r"[/\\]|~[/\\]|\.{1,2}[/\\]|[A-Za-z]:[/\\]|\S*[/\\]\S*\Z")
"""A path, unlike words such as "cells and/or nuclei"."""


def portable_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """A model's `info`, whose recipe or settings, and those of the models that it started from, name no folders.

    `data.root` becomes data/NAME, as in published recipes. Of a checkpoint that a run started from, and of any other
    path, the last part remains; a catalog key stays as it is, and so does an address, without user name, password and
    query.
    """
    result = dict(info)
    for key in ("recipe", "settings"):
        if isinstance(info.get(key), Mapping):
            result[key] = _portable_recipe(info[key])
    for key in ("started_from", "encoder_from"):
        if isinstance(info.get(key), Mapping):
            result[key] = portable_info(info[key])
    return result


def _portable_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    # Patterns of images in the data's tables may have slashes, and a note is the author's own words.
    kept = ("data", "validation", "note")
    result = {key: value if key in kept else _without_paths(value) for key, value in recipe.items()}
    data, model = recipe.get("data"), recipe.get("model")
    if isinstance(data, Mapping) and data.get("root"):
        name = data.get("name")
        known = isinstance(name, str) and re.fullmatch(_NAME, name)
        result["data"] = {**data, "root": f"data/{name if known else 'folder'}"}
    if isinstance(model, Mapping):
        starts = {key: model[key] for key in ("init_from", "encoder_weights") if isinstance(model.get(key), str)}
        result["model"] |= {key: portable_source(source) for key, source in starts.items()}
    return result


def _without_paths(value: Any) -> Any:
    """Options of a loss or a step may name files, such as one of textures."""
    if isinstance(value, str):
        return portable_source(value) if _PATH.match(value) else value
    if isinstance(value, Mapping):
        return {key: _without_paths(item) for key, item in value.items()}
    return [_without_paths(item) for item in value] if isinstance(value, list | tuple) else value


def portable_source(source: str) -> str:
    """What names weights, without folders of this machine; see `portable_info`."""
    scheme, separator, _ = source.partition("://")
    if separator and scheme == "hf":
        return source
    if separator and scheme in ("http", "https"):
        try:
            parts = urlsplit(source)
            host = parts.hostname or ""
        except ValueError:  # no valid address
            return scheme
        digits = f"#{parts.fragment}" if re.fullmatch("sha256=[0-9a-fA-F]{64}", parts.fragment) else ""
        return f"{scheme}://{host}{parts.path}{digits}"
    if re.fullmatch(_KEY, source):
        return source
    return re.split(r"[/\\]", source.rstrip("/\\"))[-1]
