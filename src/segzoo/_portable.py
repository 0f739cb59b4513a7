"""What a file that is handed on says of a model's training: the recipe, without folders and secrets of this machine."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_KEY = r"[a-z0-9_]+/[A-Za-z0-9_][A-Za-z0-9_.]*/[a-z0-9_][a-z0-9_.-]*"
_FILE = re.compile(r"\.(safetensors|onnx|pth|pt|bin|ckpt|caffemodel)\Z", re.IGNORECASE)


def portable_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """A model's `info`, whose recipe, and those of the models that it started from, name no folders.

    `data.root` becomes data/NAME, as in published recipes. Of a checkpoint that a run started from, the file name
    remains; a catalog key stays as it is, and so does an address, without user name, password and query.
    """
    result = dict(info)
    if isinstance(info.get("recipe"), Mapping):
        result["recipe"] = _portable_recipe(info["recipe"])
    if isinstance(info.get("started_from"), Mapping):
        result["started_from"] = portable_info(info["started_from"])
    return result


def _portable_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(recipe)
    data, model = recipe.get("data"), recipe.get("model")
    if isinstance(data, Mapping) and data.get("root"):
        name = data.get("name")
        known = isinstance(name, str) and re.fullmatch(_NAME, name)
        result["data"] = {**data, "root": f"data/{name if known else 'folder'}"}
    if isinstance(model, Mapping):
        starts = {key: model[key] for key in ("init_from", "encoder_weights") if isinstance(model.get(key), str)}
        result["model"] = {**model, **{key: portable_source(source) for key, source in starts.items()}}
    return result


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
    if re.fullmatch(_KEY, source) and not _FILE.search(source):
        return source
    return re.split(r"[/\\]", source.rstrip("/\\"))[-1]
