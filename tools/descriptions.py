"""Writes src/segzoo/_descriptions.json, from which `segzoo list` and `segzoo info` take what they say of a class.

    python tools/descriptions.py

The commands then import no torch. A test compares the file with what this writes.
"""

import dataclasses
import json

from segzoo import _descriptions, _registry
from segzoo._descriptions import FILE, Descriptions
from segzoo.models import describe


def generate() -> Descriptions:
    """The descriptions of everything that is segzoo's own."""

    def classes(registry: _registry.Registry) -> dict[str, _descriptions.ClassDescription]:
        return {entry.name: _descriptions.describe_class(entry.load()) for entry in registry.own()}

    return Descriptions(
        decoders={
            entry.name: describe.with_parameters(entry.name, _descriptions.describe_decoder(entry.load()))
            for entry in _registry.DECODERS.own()
        },
        papers={entry.name: describe.describe_paper(entry.name) for entry in _registry.PAPERS.own()},
        encoders={entry.name: describe.describe_encoder(entry.name) for entry in _registry.ENCODERS.own()},
        losses=classes(_registry.LOSSES),
        transforms=classes(_registry.TRANSFORMS),
        datasets={entry.name: _descriptions.describe_dataset(entry.load()) for entry in _registry.DATASETS.own()},
    )


def text() -> str:
    """The content of the file."""
    return json.dumps(dataclasses.asdict(generate()), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
