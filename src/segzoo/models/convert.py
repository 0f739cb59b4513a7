"""`convert`: another library's checkpoint as a segzoo model."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segzoo._arguments import explained
from segzoo._registry import unknown_source
from segzoo.class_files import ClassesLike
from segzoo.errors import CheckpointError, OptionError, PairingError, some
from segzoo.models.base import EncoderDecoder, SegmentationModel
from segzoo.models.create import create
from segzoo.models.head import with_classes
from segzoo.models.layers.dilation import dry_run
from segzoo.weights.convert import smp, torchvision
from segzoo.weights.convert.base import ConvertedCheckpoint
from segzoo.weights.convert.caffe import convert_caffe
from segzoo.weights.convert.caffemodel import read_caffemodel
from segzoo.weights.state_dict import read, unwrapped

CONVERTERS = {"torchvision": torchvision, "smp": smp}
"""By the name that `source` takes. Each recognizes its library's tensors and maps their names to segzoo's."""

"""Prefixes that DataParallel, a LightningModule and torch.compile add to each name."""


@explained
def convert(
    weights: str | os.PathLike[str] | Mapping[str, Tensor],
    source: str | None = None,
    *,
    encoder: str | None = None,
    classes: ClassesLike | None = None,
    num_classes: int | None = None,
    upsample: str | None = None,
    strict: bool = True,
) -> SegmentationModel:
    """Converts a checkpoint of another library to a segzoo model with the same logits.

    torchvision's fcn_resnet50 and fcn_resnet101 become `fcn`, segmentation-models-pytorch's Unet becomes `unet`. If the
    Unet has a single class, the model has two: the background, with a logit of 0, and the class. A .caffemodel by the
    authors of FCN, SegNet, DeconvNet or DeepLab-LargeFOV becomes the paper's network ("paper/fcn8s"), with the authors'
    normalization. No code in a file is run.

    Args:
        weights: the path of a weights file (.safetensors, a state_dict saved by torch.save, or a .caffemodel); the
            folder that segmentation-models-pytorch's save_pretrained wrote; or a state_dict.
        source: "torchvision" or "smp"; None recognizes it by the names of the tensors.
        encoder: timm's or the library's name of the encoder, such as "tu-resnet34". Needed if neither the tensors nor
            config.json determine it.
        classes: a `ClassSet`, the name of one or a file, as for `segzoo.create`; None takes "voc" for torchvision's 21
            classes, else generic names.
        num_classes: a number other than the checkpoint's gives the model a new head, with random weights.
        upsample: "nearest" or "bilinear", the decoder_interpolation of smp's Unet, which a bare state_dict does not
            contain. None takes that of config.json, else smp's default, "nearest".
        strict: False loads the tensors that fit, and warns (UserWarning) about those that are left over or missing.
            Missing ones get random weights.

    Returns:
        a model in eval mode, on the CPU, in float32.

    Raises:
        CheckpointError: the checkpoint is unreadable, not recognized, or has no equivalent in segzoo; or, if strict,
            tensors are missing or left over, which are named.
        PairingError: the encoder's maps are not exact fractions of the image (timm's Inception), so that the logits
            would differ.
        UnknownNameError, OptionError: invalid `source`, `encoder`, `classes`, `num_classes` or `upsample`.
    """
    if source is not None and source not in CONVERTERS:
        raise unknown_source(str(source))
    if isinstance(weights, str | os.PathLike) and not os.fspath(weights):
        raise CheckpointError("The path of the weights is empty. Pass the path of a file, or of smp's folder.")
    if isinstance(weights, str | os.PathLike) and Path(weights).suffix == ".caffemodel":
        arguments = {"source": source, "encoder": encoder, "upsample": upsample}
        given = [f"{name}=" for name, value in arguments.items() if value is not None]
        if given:
            raise OptionError(f"A .caffemodel describes its own network: it takes no {' and no '.join(given)}.")
        return with_classes(_from_caffe(Path(weights)), num_classes, classes)
    tensors, settings = _read(weights)
    if settings is not None:
        if source not in (None, "smp"):
            raise CheckpointError(f"{weights} is a folder from segmentation-models-pytorch, not from {source}.")
        source = "smp"
        encoder = encoder or settings["encoder_name"]
        upsample = upsample or settings.get("decoder_interpolation")
    source, tensors, others = _recognize(tensors, source)
    if source == "torchvision":
        if upsample is not None:
            raise OptionError("upsample= is for smp's Unet; torchvision's FCN always interpolates bilinearly.")
        checkpoint = torchvision.parse(tensors, encoder)
    else:
        checkpoint = smp.parse(tensors, encoder, upsample or "nearest")
    # On the meta device first, so that nothing is allocated for weights that do not fit.
    with torch.device("meta"):
        in_channels = _in_channels(_build(checkpoint, 3), checkpoint)
        meta_model = _build(checkpoint, in_channels)
    _check_sizes(meta_model, checkpoint)
    matched, problems, names = _compare(meta_model.state_dict(), checkpoint)
    if problems and (strict or not matched):
        raise CheckpointError(
            f"The weights are not those of {checkpoint.origin}. {problems} strict=False loads the rest."
        )
    model = _build(checkpoint, in_channels)
    model.load_state_dict(matched, strict=False)
    if others:
        names["left_out"] = [*names.get("left_out", []), *others]
    model.with_info(converted_from=checkpoint.origin, **names)
    if others and not problems:
        warnings.warn(f"Not part of the network, and left over: {some(others, 20)}.", stacklevel=2)
    if problems:
        warnings.warn(f"{checkpoint.origin} was loaded in part; missing weights are random. {problems}", stacklevel=2)
    if num_classes is None and classes is None:
        classes = checkpoint.classes
    return with_classes(model.eval(), num_classes, classes)


def _from_caffe(path: Path) -> SegmentationModel:
    """The paper's network, with the file's weights, which are not copied."""
    weights = convert_caffe(read_caffemodel(path))
    name = f"paper/{weights.network}"
    with torch.device("meta"):
        model = create(name, num_classes=weights.num_classes)
    expected = model.state_dict()
    for key, tensor in weights.tensors.items():
        if tensor.shape != expected[key].shape:
            raise CheckpointError(
                f"{path} is a variant of {name}: its {key} is {tuple(tensor.shape)}, not {tuple(expected[key].shape)}. "
                "segzoo.weights.convert.caffe.convert_caffe(read_caffemodel(path)) returns the tensors by name."
            )
    model.load_state_dict(weights.tensors, assign=True)
    notes = {"notes": list(weights.notes)} if weights.notes else {}
    return model.with_info(converted_from=f"Caffe, {weights.network}", **notes).eval()


def _build(checkpoint: ConvertedCheckpoint, in_channels: int) -> EncoderDecoder:
    model = create(
        checkpoint.decoder,
        checkpoint.encoder,
        checkpoint.num_classes,
        in_channels=in_channels,
        output_stride=checkpoint.output_stride,
        **checkpoint.options,
    )
    if checkpoint.normalization is not None and in_channels == 3:
        model.set_normalization(*checkpoint.normalization)
    assert isinstance(model, EncoderDecoder)  # since the checkpoint has an encoder
    return model


def _read(weights: Any) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The tensors, and the settings if `weights` is smp's folder."""
    if isinstance(weights, Mapping):
        if not weights or not all(isinstance(v, Tensor) and isinstance(k, str) for k, v in weights.items()):
            raise CheckpointError("A state_dict maps names to tensors. This one is empty or holds something else.")
        return dict(weights), None
    if not isinstance(weights, str | os.PathLike):
        raise OptionError(
            f"convert takes a path or a state_dict, not {type(weights).__name__}. Pass model.state_dict() or a path."
        )
    path = Path(weights)
    if not path.is_dir():
        return read(path), None
    settings = smp.settings(path)
    # save_pretrained has used these two names; config.json must not choose one.
    files = [path / name for name in ("model.safetensors", "pytorch_model.bin")]
    return read(next((file for file in files if file.is_file()), files[0])), settings


def _recognize(tensors: dict[str, Tensor], source: str | None) -> tuple[str, dict[str, Tensor], list[str]]:
    """The library that the tensors belong to, those of its network by its names, and the names of all others."""
    for name, library in CONVERTERS.items():
        found = unwrapped(tensors, library.matches) if source in (None, name) else None
        if found is not None:
            return name, *found
    if any(name.startswith("encoder.net.") for name in tensors):
        raise CheckpointError("These are weights of a segzoo model. Load its file with segzoo.load.")
    known = " and ".join(library.KNOWN for name, library in CONVERTERS.items() if source in (None, name))
    raise CheckpointError(
        f"segzoo recognizes the weights of {known}, and these are not; they begin with "
        f"{some(list(tensors), 3) or 'nothing'}."
    )


def _in_channels(model: SegmentationModel, checkpoint: ConvertedCheckpoint) -> int:
    """The image channels of the checkpoint, from its first convolution; `model` is the same with three channels."""
    tensors = model.state_dict()
    stem = next((name for name, tensor in tensors.items() if tensor.ndim == 4 and tensor.shape[1] == 3), None)
    for theirs, ours in checkpoint.names.items():
        if ours == stem and checkpoint.tensors[theirs].ndim == 4:
            return checkpoint.tensors[theirs].shape[1]
    return 3


def _check_sizes(model: EncoderDecoder, checkpoint: ConvertedCheckpoint) -> None:
    """Rejects an encoder whose maps lose rows: both libraries then resize, each differently."""
    size = 8 * model.spec.size_divisibility
    deepest = dry_run(model.encoder, model.spec.in_channels, size)[-1]
    if deepest.shape[-1] * model.encoder.features.strides[-1] != size:
        raise PairingError(
            f"{checkpoint.origin} cannot be converted to the same logits: encoder {checkpoint.encoder!r} does not keep "
            f"exactly 1/{model.encoder.features.strides[-1]} of the image, and each library then resizes differently."
        )


def _compare(
    expected: Mapping[str, Tensor], checkpoint: ConvertedCheckpoint
) -> tuple[dict[str, Tensor], str, dict[str, list[str]]]:
    """The tensors that fit, by segzoo's names; and the missing and leftover ones, as sentences and as lists."""
    matched: dict[str, Tensor] = {}
    left_out = []
    for theirs, tensor in checkpoint.tensors.items():
        own = expected.get(checkpoint.names.get(theirs, ""))
        if own is None:
            left_out.append(theirs)
        elif (tensor.layout, tensor.is_floating_point()) != (own.layout, own.is_floating_point()):
            left_out.append(f"{theirs}, which holds {tensor.dtype} ({tensor.layout})")
        elif tensor.shape != own.shape:
            left_out.append(f"{theirs} {tuple(tensor.shape)}, expected {tuple(own.shape)}")
        else:
            matched[checkpoint.names[theirs]] = tensor
    # Files from before torch 0.4.1 lack these counters.
    missing = [name for name in expected if name not in matched and not name.endswith(".num_batches_tracked")]
    problems = [f"Missing: {some(missing, 20)} (segzoo's names)."] if missing else []
    problems += [f"Left over: {some(left_out, 20)}."] if left_out else []
    names = {"random_weights": missing, "left_out": left_out}
    return matched, " ".join(problems), {key: value for key, value in names.items() if value}
