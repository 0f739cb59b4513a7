"""`segzoo export`: writes an architecture or a trained model as one .onnx file."""

import enum
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segzoo._io import require_suffix
from segzoo._registry import DECODERS
from segzoo.cli import console, files, types, validators
from segzoo.errors import ExportError
from segzoo.exporting import triton
from segzoo.weights.resolve import Located, looks_like_key

if TYPE_CHECKING:
    from segzoo.exporting.export import Export
    from segzoo.exporting.onnx.verify import Verification
    from segzoo.models.base import SegmentationModel

_MODEL = "Model options (architectures only)"
_FILE = "Output options"


class GraphInput(enum.StrEnum):
    """What the exported graph takes: images, or normalized tensors."""

    IMAGE = "image"
    TENSOR = "tensor"


class Precision(enum.StrEnum):
    """Number format of weights and arithmetic."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


def export(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help=f"An architecture, which is a decoder or a paper's network (`segzoo list`); or {types.MODEL}.",
        ),
    ],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="The encoder: any of `segzoo list --encoders '*'`.",
            show_default="the decoder's default",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    num_classes: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Number of classes, including background.",
            show_default="that of --classes, the paper's network, or 21",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar=types.CLASS_SETS,
            help=types.CLASSES_HELP,
            show_default="class 0, class 1, ...",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=16,
            help="Number of image channels.",
            show_default="that of the paper's network, or 3",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    encoder_weights: Annotated[
        str | None,
        typer.Option(
            metavar="imagenet|TAG|PATH",
            help="timm's weights by tag, such as imagenet or a1_in1k; or a weights file of timm or torchvision.",
            show_default="random",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    output_stride: Annotated[
        int | None,
        typer.Option(
            metavar="8|16|32",
            help="Stride of the encoder's deepest feature map. Smaller is finer and slower.",
            show_default="the decoder's default",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    upsample: Annotated[
        str | None,
        typer.Option(
            metavar="MODE",
            help="Upsampling mode: bilinear, nearest, transposed, upconv or unpool (`segzoo list` shows which apply).",
            show_default="the paper's",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    auxiliary: Annotated[
        bool,
        typer.Option(
            "--auxiliary",
            help="Build fcn with its auxiliary head, which is for training and is not exported.",
            rich_help_panel=_MODEL,
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="The file to write, or an existing folder for it.",
            show_default="DECODER-ENCODER.onnx, or FILE.onnx",
            rich_help_panel=_FILE,
        ),
    ] = None,
    input: Annotated[
        GraphInput,
        typer.Option(
            help="image: from uint8 images (N, H, W, C) to masks (N, H, W). "
            "tensor: from normalized float32 (N, C, H, W) to logits.",
            rich_help_panel=_FILE,
        ),
    ] = GraphInput.IMAGE,
    precision: Annotated[
        Precision,
        typer.Option(
            help="fp16 halves the file size, with the same inputs and outputs; int8 needs --calibration.",
            rich_help_panel=_FILE,
        ),
    ] = Precision.FP32,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Images to calibrate int8 with, similar to those you will run; the first 100 are used. "
            "A third of them compares the result with fp32.",
            rich_help_panel=_FILE,
        ),
    ] = None,
    min_agreement: Annotated[
        float,
        typer.Option(
            help="For int8, the smallest share of pixels, 0-1, that must keep fp32's class.",
            min=0.0,
            max=1.0,
            rich_help_panel=_FILE,
        ),
    ] = 0.98,
    confidence: Annotated[
        bool,
        typer.Option(
            "--confidence", help="Add an output: the probability of each pixel's class.", rich_help_panel=_FILE
        ),
    ] = False,
    logits: Annotated[
        bool,
        typer.Option("--logits", help="Add an output: the logits.", rich_help_panel=_FILE),
    ] = False,
    static_shape: Annotated[
        str | None,
        typer.Option(
            metavar="N,H,W",
            help="Export for one batch size and image size only, such as 1,512,512.",
            show_default="any",
            rich_help_panel=_FILE,
        ),
    ] = None,
    opset: Annotated[int, typer.Option(min=18, help="ONNX opset version.", rich_help_panel=_FILE)] = 18,
    repository: Annotated[
        Path | None,
        typer.Option(
            "--triton",
            metavar="REPOSITORY",
            help="Write REPOSITORY/NAME/ for NVIDIA Triton Inference Server instead of a file.",
            rich_help_panel=_FILE,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="The model's name in Triton.", show_default="DECODER-ENCODER, or FILE", rich_help_panel=_FILE
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing file or Triton model.", rich_help_panel=_FILE)
    ] = False,
) -> None:
    """Export a model to one .onnx file for images of any size.

    MODEL is a trained model, or an architecture with random weights for measuring speed or trying a deployment. The
    file is written only after onnxruntime has matched torch on eight batches of images.

    Examples:

      segzoo export street.safetensors
      segzoo export fcn/resnet101/coco-voc
      segzoo export unet --encoder resnet101 --classes camvid -o street.onnx
      segzoo export fcn --encoder resnet50 --output-stride 16 --input tensor
      segzoo export paper/deeplab_largefov --classes voc
      segzoo export street.safetensors --precision int8 --calibration photos/
      segzoo export street.safetensors --triton models/
    """
    if repository is not None and output is not None:
        raise typer.BadParameter("--triton and -o both name an output. Pass one of them.")
    if repository is None and name is not None:
        raise typer.BadParameter("--name needs --triton. To name a file, use -o.")
    options: dict[str, Any] = {
        "encoder": encoder,
        "num_classes": num_classes,
        "classes": classes,
        "in_channels": channels,
        "encoder_weights": encoder_weights,
        "output_stride": output_stride,
        "upsample": upsample,
        "auxiliary": auxiliary,
    }
    if (precision is Precision.INT8) != (calibration is not None):
        raise typer.BadParameter("--precision int8 and --calibration FOLDER go together. Pass both, or neither.")
    if confidence and input is GraphInput.TENSOR:
        raise typer.BadParameter("--confidence needs --input image; --input tensor outputs logits only.")
    shape = _parse_static_shape(static_shape)
    images = files.images(calibration)[:100] if calibration else None
    file = Path(source)
    # For a mistyped key, `files.find` suggests similar ones.
    from_file = files.is_model(source) or files.is_path(source) or looks_like_key(source)
    # All checks come before the slow steps, of which importing torch is the first.
    if from_file:
        _refuse_model_options(context, source)
        default = files.onnx_name(source)
        if files.is_path(source) and not files.is_key_or_url(source):
            files.require_model_file(file)
            if file.suffix.lower() == ".onnx":
                raise ExportError(f"{file} is already an exported file. `segzoo info {file}` describes it.")
    else:
        validators.check_model(source, classes, num_classes, encoder_weights, output_stride, upsample)
        entry = DECODERS.get(source)
        given = encoder or (None if entry is None else entry.default_encoder)
        default = files.safe_name("-".join(filter(None, (source, given)))) + ".onnx"
    name = name or files.safe_name(default.removesuffix(".onnx"))
    destination: AbstractContextManager[Path]
    if repository is not None:
        triton.check(repository, name, force)
        destination = triton.model_folder(repository, name, force)
    else:
        destination = nullcontext(_target(output, default, force))
    located = files.find(source) if from_file else None
    with console.Steps() as step:
        step("loading torch")
        from segzoo.exporting.export import export as export_model
        from segzoo.models.parameters import count_parameters

        model = _create(source, options, step) if located is None else _load(located, source, step)
        with destination as target:
            exported = export_model(
                model,
                target,
                input=input.value,
                precision=precision.value,
                confidence=confidence,
                logits=logits,
                static_shape=shape,
                opset=opset,
                calibration=images,
                min_agreement=min_agreement,
                progress=step,
            )
    parameters = count_parameters(model)
    if repository is None:
        _report(exported, exported.path, parameters)
        _print_session_usage(exported.path, input.value)
    else:
        _report(exported, repository / name, parameters)
        _print_triton_usage(repository)


def _refuse_model_options(context: typer.Context, file: str) -> None:
    """Refuses options that describe an architecture, because a trained model has one already."""
    names = (
        "encoder",
        "num_classes",
        "classes",
        "channels",
        "encoder_weights",
        "output_stride",
        "upsample",
        "auxiliary",
    )
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = "--" + name.replace("_", "-")
            raise typer.BadParameter(f"{option} applies to architectures only, and {file} is a trained model. Omit it.")


def _parse_static_shape(text: str | None) -> tuple[int, int, int] | None:
    """Batch size, height and width of --static-shape."""
    if text is None:
        return None
    try:
        batch, height, width = (int(word) for word in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"--static-shape takes N,H,W such as 1,512,512, not {text!r}.") from None
    return batch, height, width


def _target(output: Path | None, default: str, force: bool) -> Path:
    """The file to write, after checking that it can be."""
    is_file = output is not None and not output.is_dir()
    target = require_suffix(output, ".onnx") if output and is_file else (output or Path()) / default
    if not target.parent.is_dir():
        raise ExportError(f"There is no folder {target.parent} to write {target.name} into. Create it first.")
    if target.exists() and not force:
        raise ExportError(f"{target} exists. Pass --force to replace it, or choose another name with -o.")
    return target


def _load(located: Located, source: str, step: console.Steps) -> "SegmentationModel":
    from segzoo.models.load import load_located

    step(f"loading {source}")
    return load_located(located)


def _create(decoder: str, options: dict[str, Any], step: console.Steps) -> "SegmentationModel":
    from segzoo.models.create import create

    step(f"building {decoder}")
    # Only options that were given: not every decoder has `upsample` and `auxiliary`.
    model = create(decoder, **{name: value for name, value in options.items() if value not in (None, False)})
    weights = "The weights" if options["encoder_weights"] is None else "The decoder's weights"
    step.warn(f"{weights} are random: masks are meaningless until the model is trained.")
    return model


def verification_rows(verification: "Verification") -> list[tuple[str, str]]:
    """The result of a verification, for `console.key_values`."""
    note = " (the network unpools: near-ties may flip a pooling index)" if verification.unpooling else ""
    return [
        ("logits differ by", f"{console.logits_difference(verification.logits_difference)} of the largest{note}"),
        ("same class", f"{console.pixel_agreement(verification.pixel_agreement)} of pixels"),
        ("verified on", f"{len(verification.cases)} batches of images, against torch"),
    ]


def _report(exported: "Export", written: Path, parameters: int) -> None:
    console.title(f"Wrote {console.display_path(written)}")
    console.key_values(
        [
            ("parameters", f"{parameters:,}"),
            ("size", console.megabytes(exported.size)),
            ("precision", exported.precision),
            ("opset", str(exported.opset)),
            ("export time", f"{exported.seconds:.1f} s"),
            *verification_rows(exported.verification),
            *([("quantization", str(exported.quantization))] if exported.quantization else []),
        ]
    )


def _print_session_usage(path: Path, input: str) -> None:
    console.line()
    console.line("To run it without torch:")
    console.line()
    name = "Predictor" if input == "image" else "OnnxBackend"
    console.line(f"    from segzoo.inference import {name}")
    console.line(f'    model = {name}("{path}", device="auto")')
    if input == "image":
        console.line('    mask = model.predict("image.jpg").mask  # class ids (H, W)')
    else:
        console.line("    logits = model.run_tensor(batch)  # float32 (N, C, H, W), normalized")


def _print_triton_usage(repository: Path) -> None:
    console.line()
    console.line("To serve it with Triton:")
    console.line()
    console.line(f"    tritonserver --model-repository={repository.resolve()}")
