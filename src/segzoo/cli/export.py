"""`segzoo export`: a decoder by name, or a trained model in a file, as one .onnx file."""

import enum
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segzoo._io import with_ending
from segzoo._registry import DECODERS
from segzoo.cli import console, files, types, validators
from segzoo.errors import ExportError
from segzoo.exporting import triton
from segzoo.weights.resolve import Located

if TYPE_CHECKING:
    from segzoo.exporting.export import Export
    from segzoo.models.base import SegmentationModel

_MODEL = "The model (for a decoder by name)"
_FILE = "The file"


class Io(enum.StrEnum):
    """What goes in and comes out."""

    IMAGE = "image"
    TENSOR = "tensor"


class Precision(enum.StrEnum):
    """Of weights and arithmetic."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


def export(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="DECODER_OR_MODEL",
            help=f"A decoder or a paper's network (`segzoo list`), or {types.MODEL}.",
        ),
    ],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Any of `segzoo list --encoders '*'`.", show_default="the decoder's own", rich_help_panel=_MODEL
        ),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Number of classes, background counted.",
            show_default="those of --labels, or 21, or the paper network's own",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar=types.LABEL_SETS,
            help="Names and colours of the classes.",
            show_default="class 0, 1, ...",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=16,
            help="Channels of the image.",
            show_default="3, or the paper network's own",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    encoder_weights: Annotated[
        str | None,
        typer.Option(
            metavar="imagenet|TAG|PATH",
            help="imagenet or a tag such as a1_in1k fetches timm's; or a file of timm's or torchvision's.",
            show_default="random",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    output_stride: Annotated[
        int | None,
        typer.Option(
            metavar="8|16|32",
            help="Stride of the encoder's deepest map: smaller is finer and slower.",
            show_default="the decoder's own",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    upsample: Annotated[
        str | None,
        typer.Option(
            metavar="WAY",
            help="bilinear, nearest, transposed, upconv or unpool: `segzoo list` says which.",
            show_default="the paper's",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    auxiliary: Annotated[
        bool,
        typer.Option(
            "--auxiliary", help="With fcn's second head, for training; the graph leaves it out.", rich_help_panel=_MODEL
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="The file to write, or the folder to write it into.",
            show_default="DECODER-ENCODER.onnx, or FILE.onnx",
            rich_help_panel=_FILE,
        ),
    ] = None,
    io: Annotated[
        Io,
        typer.Option(
            help="image: uint8 (N, H, W, C), 0-255, to labels (N, H, W). "
            "tensor: normalised float32 (N, C, H, W) to logits.",
            rich_help_panel=_FILE,
        ),
    ] = Io.IMAGE,
    precision: Annotated[
        Precision,
        typer.Option(
            help="fp16 halves the file and keeps inputs and outputs; int8 needs --calibration.", rich_help_panel=_FILE
        ),
    ] = Precision.FP32,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="For int8: images like those to come, the first 100 of them are used.",
            rich_help_panel=_FILE,
        ),
    ] = None,
    scores: Annotated[
        bool, typer.Option("--scores", help="A further output: each label's probability.", rich_help_panel=_FILE)
    ] = False,
    logits: Annotated[
        bool,
        typer.Option("--logits", help="A further output: the logits, which tiling needs.", rich_help_panel=_FILE),
    ] = False,
    fixed: Annotated[
        str | None,
        typer.Option(
            metavar="N,H,W",
            help="For one size only, such as 1,512,512.",
            show_default="any size",
            rich_help_panel=_FILE,
        ),
    ] = None,
    opset: Annotated[int, typer.Option(min=18, help="Version of the ONNX operators.", rich_help_panel=_FILE)] = 18,
    repository: Annotated[
        Path | None,
        typer.Option(
            "--triton",
            metavar="REPOSITORY",
            help="Write REPOSITORY/NAME/ for NVIDIA's Triton Inference Server instead of a file.",
            rich_help_panel=_FILE,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Of the model in Triton.", show_default="DECODER-ENCODER, or FILE", rich_help_panel=_FILE),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file, or Triton's folder, if it exists.", rich_help_panel=_FILE)
    ] = False,
) -> None:
    """Writes a model as one .onnx file for images of any size, proved equal to the model.

    A decoder by name gives the architecture with random weights: of use to measure speed and to try a deployment. A
    .safetensors file, as segzoo.save writes it, a key of the catalog (`segzoo list --weights`), hf://owner/repo or
    https://...#sha256=... gives a trained model. Either way the file is written only after onnxruntime has computed
    with it what torch computes, on eight batches of images.

      segzoo export street.safetensors
      segzoo export fcn/resnet101/coco-voc
      segzoo export unet --encoder resnet101 --labels camvid -o street.onnx
      segzoo export fcn --encoder resnet50 --output-stride 16 --io tensor
      segzoo export paper/deeplab_largefov --labels voc
      segzoo export street.safetensors --precision int8 --calibration photos/
      segzoo export street.safetensors --triton models/
    """
    if repository is not None and output is not None:
        raise typer.BadParameter("--triton says where the model goes, and -o too: pass one of them.")
    if repository is None and name is not None:
        raise typer.BadParameter("--name is of a model in Triton: pass --triton too, or name the file with -o.")
    given: dict[str, Any] = {
        "encoder": encoder,
        "num_classes": classes,
        "labels": labels,
        "in_channels": channels,
        "encoder_weights": encoder_weights,
        "output_stride": output_stride,
        "upsample": upsample,
        "auxiliary": auxiliary,
    }
    if (precision is Precision.INT8) != (calibration is not None):
        raise typer.BadParameter("--precision int8 and --calibration FOLDER, images like those to come, go together.")
    if scores and io is Io.TENSOR:
        raise typer.BadParameter("--scores is of --io image: a file of --io tensor gives logits.")
    size = _size(fixed)
    images = _images(calibration) if calibration else None
    file = Path(source)
    # One slash more than a paper's name has: a key, if a mistyped one, to which near ones are suggested.
    from_file = files.names_model(source) or files.meant(source) or source.count("/") == 2
    # All of it is checked before anything that takes long, which loading torch is.
    if from_file:
        _refuse_options(context, source)
        default = files.exported(source)
        if files.meant(source) and not files.placed(source):
            files.require(file)
            if file.suffix.lower() == ".onnx":
                raise ExportError(f"{file} is an exported file already. `segzoo info {file}` shows what it holds.")
    else:
        validators.check_model(source, labels, encoder_weights, output_stride, upsample)
        default = files.plain("-".join(filter(None, (source, encoder or DECODERS.get(source))))) + ".onnx"
    name = name or files.plain(default.removesuffix(".onnx"))
    place: AbstractContextManager[Path]
    if repository is not None:
        triton.check(repository, name, force)
        place = triton.written(repository, name, force)
    else:
        place = nullcontext(_target(output, default, force))
    located = files.find(source) if from_file else None
    with console.Steps() as step:
        step("loading torch")
        from segzoo.exporting.export import export as export_model
        from segzoo.models.create import count

        model = _create(source, given, step) if located is None else _load(located, source, step)
        with place as target:
            done = export_model(
                model,
                target,
                io=io.value,
                precision=precision.value,
                scores=scores,
                logits=logits,
                fixed=size,
                opset=opset,
                calibration=images,
                progress=step,
            )
    parameters = count(model)
    if repository is None:
        _report(done, done.path, parameters)
        _session(done.path, io.value)
    else:
        _report(done, repository / name, parameters)
        _server(repository)


def _images(folder: Path) -> list[Path]:
    from segzoo.data.images import list_images

    return list_images(folder)[:100]


def _refuse_options(context: typer.Context, file: str) -> None:
    """A file says what model it holds; an option that would be ignored is a mistake."""
    building = ("encoder", "classes", "labels", "channels", "encoder_weights", "output_stride", "upsample", "auxiliary")
    for name in building:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = "--" + name.replace("_", "-")
            raise typer.BadParameter(f"{option} goes with a decoder by name; {file} says itself what it holds.")


def _size(text: str | None) -> tuple[int, int, int] | None:
    """The three numbers of --fixed."""
    if text is None:
        return None
    try:
        batch, height, width = (int(word) for word in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"--fixed takes batch,height,width such as 1,512,512, not {text!r}.") from None
    return batch, height, width


def _target(output: Path | None, default: str, force: bool) -> Path:
    """The file to write, checked before anything that takes long."""
    named = output is not None and not output.is_dir()
    target = with_ending(output, ".onnx") if output and named else (output or Path()) / default
    if not target.parent.is_dir():
        raise ExportError(f"There is no folder {target.parent} to write {target.name} into. Create it first.")
    if target.exists() and not force:
        raise ExportError(f"{target} exists. Pass --force to replace it, or another name with -o.")
    return target


def _load(located: Located, source: str, step: console.Steps) -> "SegmentationModel":
    from segzoo.models.load import load_located

    step(f"loading {source}")
    return load_located(located)


def _create(decoder: str, given: dict[str, Any], step: console.Steps) -> "SegmentationModel":
    from segzoo.models.create import create

    step(f"building {decoder}")
    # What was not asked for is left out: not every decoder has `upsample` and `auxiliary`.
    model = create(decoder, **{name: value for name, value in given.items() if value not in (None, False)})
    what = "The weights" if given["encoder_weights"] is None else "The decoder's weights"
    step.warn(f"{what} are random: the labels mean nothing until the model is trained.")
    return model


def _report(done: "Export", written: Path, parameters: int) -> None:
    proof = done.proof
    judged = " (it unpools: near-ties may flip a switch)" if proof.unpooling else ""
    console.title(f"Wrote {console.shown(written)}")
    console.facts(
        [
            ("parameters", f"{parameters:,}"),
            ("size", console.megabytes(done.size)),
            ("precision", done.precision),
            ("opset", str(done.opset)),
            ("export time", f"{done.seconds:.1f} s"),
            ("logits differ by", f"{files.difference(proof.logits_difference)} of the largest{judged}"),
            ("same label", f"{files.agreement(proof.label_agreement)} of pixels"),
            ("proved on", f"{len(proof.cases)} batches of images, against torch"),
            *([("quantisation", str(done.quantisation))] if done.quantisation else []),
        ]
    )


def _session(path: Path, io: str) -> None:
    console.line()
    console.line("To run it, without torch:")
    console.line()
    console.line("    from segzoo.inference import Session")
    console.line(f'    session = Session("{path}", device="auto")')
    if io == "image":
        console.line('    labels = session.predict("photograph.jpg")  # class ids (height, width)')
    else:
        console.line("    logits = session.run_tensor(batch)  # float32 (N, C, H, W), normalised")


def _server(repository: Path) -> None:
    console.line()
    console.line("To serve it, where Triton is installed:")
    console.line()
    console.line(f"    tritonserver --model-repository={repository.resolve()}")
