"""`segzoo convert`: another library's checkpoint as one .safetensors file that rebuilds its model."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from segzoo._io import with_ending
from segzoo._registry import SOURCES, unknown_source
from segzoo.classes import label_set
from segzoo.cli import console
from segzoo.errors import CheckpointError


def convert(
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Weights (.safetensors, .pth, .caffemodel, ...), or the folder save_pretrained wrote."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .safetensors file to write.")],
    source: Annotated[
        str | None,
        typer.Option(
            metavar="torchvision|smp", help="The library that it is from.", show_default="by what is in the file"
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Where the file does not tell, such as tu-resnet34.", show_default="by what is in the file"),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="camvid|voc",
            help="Names and colours of the classes.",
            show_default="voc for torchvision's 21 classes, else class 0, 1, ...",
        ),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(
            min=2, help="Another number of classes: a new head with random weights.", show_default="the file's"
        ),
    ] = None,
    upsample: Annotated[
        str | None,
        typer.Option(
            metavar="nearest|bilinear",
            help="decoder_interpolation of smp's Unet, which a bare file does not tell.",
            show_default="config.json's, or nearest",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict/--no-strict", help="--no-strict loads what fits, and says what it left out."),
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Turns a checkpoint of another library into a file of segzoo whose model gives the same logits.

    It reads torchvision's fcn_resnet50 and fcn_resnet101, and the Unet of segmentation-models-pytorch on ResNet, VGG,
    MobileNetV2 and timm's encoders. A .caffemodel of the authors of FCN, SegNet, DeconvNet or DeepLab-LargeFOV becomes
    the paper's network (docs: Weights from Caffe). No code in a file is run.

      segzoo convert fcn_resnet50_coco.pth -o voc.safetensors
      segzoo convert fcn8s-heavy-pascal.caffemodel -o fcn8s.safetensors --labels voc
      segzoo convert unet-folder/ -o street.safetensors --labels camvid
      segzoo convert unet.pth -o street.safetensors --encoder tu-resnet34
    """
    target = with_ending(output, ".safetensors")
    # Checked before anything that takes long.
    if not weights.exists():
        raise CheckpointError(f"There is no file or folder {weights}. Check the path.")
    if source is not None and source not in SOURCES:
        raise unknown_source(source)
    if labels is not None:
        label_set(labels)
    if not target.parent.is_dir():
        raise CheckpointError(f"There is no folder {target.parent} to write {target.name} into. Create it first.")
    if target.exists() and not force:
        raise CheckpointError(f"{target} exists. Pass --force to replace it, or another name with -o.")
    with console.Steps() as step:
        step("loading torch")
        from segzoo.models.convert import convert as convert_weights
        from segzoo.models.create import count, save

        step(f"converting {weights}")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            model = convert_weights(
                weights,
                source,
                encoder=encoder,
                labels=labels,
                num_classes=classes,
                upsample=upsample,
                strict=strict,
            )
        for warning in said:
            step.warn(str(warning.message))
        save(model, target)
    config = model.config
    said_of_weights = config.info.get("started_from", config.info)
    if "started_from" in config.info:
        step.warn("The head is new, and its weights are random: the labels mean nothing until the model is trained.")
    for note in said_of_weights.get("notes", ()):
        step.warn(note)
    console.title(f"Wrote {target}")
    console.facts(
        [
            ("from", said_of_weights["converted_from"]),
            ("decoder" if config.encoder else "network", config.decoder),
            *([("encoder", f"{config.encoder}, output stride {config.output_stride}")] if config.encoder else []),
            ("classes", f"{config.num_classes} ({', '.join(config.labels.names[:3])}, ...)"),
            ("parameters", f"{count(model):,}"),
            ("size", console.megabytes(target.stat().st_size)),
        ]
    )
