"""The part of `segzoo demo` that needs torch: it builds or loads a model, exports it, and verifies the file."""

from pathlib import Path
from typing import Any

from segzoo.cli import console
from segzoo.cli.export import verification_rows
from segzoo.models.base import SegmentationModel
from segzoo.weights.catalog import Entry

SEED, NUM_CLASSES = 7, 6
"""Random weights often predict one class everywhere; these give several regions with unet on mobilenet."""


def build(
    entry: Entry | None,
    decoder: str | None,
    encoder: str | None,
    num_classes: int | None,
    seed: int | None,
    step: console.Steps,
) -> tuple[SegmentationModel, str]:
    """The trained model of an entry, or without one a model with random weights; and where its weights come from."""
    if entry is not None:
        from segzoo.models.load import load

        step(f"loading {entry.key}")
        return load(entry.key), f"trained on {entry.data}"
    decoder, encoder, seed = decoder or "unet", encoder or "mobilenet", SEED if seed is None else seed
    step(f"building {decoder} on {encoder}")
    step.warn(f"The weights are random (seed {seed}), so the mask is meaningless.")
    return build_random(decoder, encoder, num_classes or NUM_CLASSES, seed), "random weights"


def build_random(decoder: str, encoder: str, num_classes: int, seed: int) -> SegmentationModel:
    """A model with random weights."""
    import torch

    from segzoo.models.create import create
    from segzoo.models.decoders import DECODERS

    torch.manual_seed(seed)
    # Untrained transposed convolutions produce a grid pattern; interpolation keeps the shapes of the photograph.
    is_learned = getattr(DECODERS.get(decoder), "upsample_modes", ())[:1] == ("upconv",)
    options: dict[str, Any] = {"upsample": "bilinear"} if is_learned else {}
    return create(decoder, encoder, num_classes, **options)


def export_model(
    model: SegmentationModel, origin: str, folder: Path, step: console.Steps
) -> tuple[Path, list[tuple[str, str]]]:
    """Exports the model into a folder.

    Args:
        origin: of its weights.

    Returns:
        the file, and what to report about it.
    """
    from segzoo.exporting.export import export
    from segzoo.models.parameters import count_parameters

    spec = model.spec
    exported = export(model, folder / f"{spec.decoder}-{spec.encoder}.onnx", progress=step)
    options = "".join(f", {name}={value}" for name, value in spec.options.items())
    return exported.path, [
        ("model", f"{spec.decoder} on {spec.encoder}{options}, {spec.num_classes} classes, {origin}"),
        ("parameters", f"{count_parameters(model):,}"),
        ("export time", f"{exported.seconds:.1f} s, including verification"),
        *verification_rows(exported.verification),
    ]
