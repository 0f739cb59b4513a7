"""The record a file carries about itself, as the string pairs that .safetensors and .onnx headers hold.

Floor 0: the runtime reads it without torch. One key a field, so that any viewer of such files shows them.
"""

import json
from collections.abc import Mapping
from typing import Any

PREFIX = "segzoo."


def encode(record: Mapping[str, Any]) -> dict[str, str]:
    """Turns {"encoder": "vgg16"} into {"segzoo.encoder": '"vgg16"'}: every value is JSON."""
    return {PREFIX + key: json.dumps(value) for key, value in record.items()}


def title(record: Mapping[str, Any]) -> str:
    """What to call the model of a record: "unet on mobilenet", or the name of a paper's whole network."""
    return f"{record['decoder']} on {record['encoder']}" if record["encoder"] else str(record["decoder"])


def decode(pairs: Mapping[str, str]) -> dict[str, Any]:
    """The inverse of `encode`; keys of others are left out.

    Returns:
        the record; empty when the file was not written by segzoo.

    Raises:
        ValueError: a value under one of our keys is not JSON.
    """
    return {key.removeprefix(PREFIX): json.loads(value) for key, value in pairs.items() if key.startswith(PREFIX)}
