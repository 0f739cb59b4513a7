"""`segzoo convert`: turns another library's checkpoint into a .safetensors file that rebuilds its model."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from segzoo._io import require_suffix, similar_paths
from segzoo._registry import CONVERTERS, unknown_source
from segzoo.cli import console, types, validators
from segzoo.errors import CheckpointError, did_you_mean


def convert(
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A weights file (.safetensors, .pth, .caffemodel, ...), or a folder that save_pretrained wrote.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .safetensors file to write.")],
    source: Annotated[
        str | None,
        typer.Option(
            metavar="torchvision|smp",
            help="The library that wrote the checkpoint.",
            show_default="detected from the file",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="smp's name of the encoder, if the file does not name it, such as tu-resnet34.",
            show_default="detected from the file",
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar=types.CLASS_SETS,
            help=types.CLASSES_HELP,
            show_default="voc for torchvision's 21 classes, else class 0, 1, ...",
        ),
    ] = None,
    num_classes: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Number of classes. One that differs from the file's gives a new head with random weights.",
            show_default="the file's",
        ),
    ] = None,
    upsample: Annotated[
        str | None,
        typer.Option(
            metavar="nearest|bilinear",
            help="decoder_interpolation of smp's Unet, which a file without config.json does not name.",
            show_default="from config.json, or nearest",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict/--no-strict", help="Whether all tensors must fit; --no-strict warns about the others."),
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Convert a checkpoint of another library to a .safetensors file with the same logits.

    Supported are torchvision's fcn_resnet50 and fcn_resnet101, and the Unet of segmentation-models-pytorch (smp) on
    ResNet, VGG, MobileNetV2 and timm's encoders. A .caffemodel from the authors of FCN, SegNet, DeconvNet or
    DeepLab-LargeFOV becomes the paper's network (docs: Weights from Caffe). Code inside a file is never executed.

    Examples:

      segzoo convert fcn_resnet50_coco.pth -o voc.safetensors
      segzoo convert fcn8s-heavy-pascal.caffemodel -o fcn8s.safetensors --classes voc
      segzoo convert unet-folder/ -o street.safetensors --classes camvid
      segzoo convert unet.pth -o street.safetensors --encoder tu-resnet34
    """
    target = require_suffix(output, ".safetensors")
    # All checks come before the slow steps, of which importing torch is the first.
    if not weights.exists():
        raise CheckpointError(
            f"There is no file or folder {weights}.{did_you_mean(similar_paths(weights))} Check the path."
        )
    if source is not None and source not in CONVERTERS:
        raise unknown_source(source)
    validators.check_classes(classes, num_classes)
    if not target.parent.is_dir():
        raise CheckpointError(f"There is no folder {target.parent} to write {target.name} into. Create it first.")
    if target.exists() and not force:
        raise CheckpointError(f"{target} exists. Pass --force to replace it, or another name with -o.")
    with console.Steps() as step:
        step("loading torch")
        from segzoo.models.convert import convert as convert_weights
        from segzoo.models.parameters import count_parameters
        from segzoo.models.save import save

        step(f"converting {weights}")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            model = convert_weights(
                weights,
                source,
                encoder=encoder,
                classes=classes,
                num_classes=num_classes,
                upsample=upsample,
                strict=strict,
            )
        for warning in caught:
            step.warn(str(warning.message))
        save(model, target)
    spec = model.spec
    provenance = spec.info.get("started_from", spec.info)
    if "started_from" in spec.info:
        step.warn("The head is new and has random weights: masks are meaningless until the model is trained.")
    for note in provenance.get("notes", ()):
        step.warn(note)
    console.title(f"Wrote {target}")
    console.key_values(
        [
            ("from", provenance["converted_from"]),
            ("decoder" if spec.encoder else "network", spec.decoder),
            *([("encoder", f"{spec.encoder}, output stride {spec.output_stride}")] if spec.encoder else []),
            ("classes", f"{spec.num_classes} ({', '.join(spec.classes.names[:3])}, ...)"),
            ("parameters", f"{count_parameters(model):,}"),
            ("size", console.megabytes(target.stat().st_size)),
        ]
    )
