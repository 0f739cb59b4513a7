"""convert: another library's checkpoint as a model of segzoo."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segzoo._registry import unknown_source
from segzoo.classes import LabelSet
from segzoo.errors import CheckpointError, OptionError, PairingError
from segzoo.models.base import EncoderDecoder, SegmentationModel
from segzoo.models.create import create, with_classes
from segzoo.models.layers.dilation import dry_run
from segzoo.weights.convert import smp, torchvision
from segzoo.weights.convert.base import Foreign
from segzoo.weights.convert.caffe import convert_caffe
from segzoo.weights.convert.caffemodel import read_caffemodel
from segzoo.weights.state_dict import read, some

SOURCES = {"torchvision": torchvision, "smp": smp}
"""By the name that `source` takes; each recognises its own tensors and says them in segzoo's words."""

_WRAPPERS = ("", "module.", "model.", "_orig_mod.")
"""What DataParallel, a LightningModule and torch.compile put before each name."""


def convert(
    weights: str | os.PathLike[str] | Mapping[str, Tensor],
    source: str | None = None,
    *,
    encoder: str | None = None,
    labels: str | LabelSet | None = None,
    num_classes: int | None = None,
    upsample: str | None = None,
    strict: bool = True,
) -> SegmentationModel:
    """Turns a checkpoint of another library into a model of segzoo that gives the same logits.

    torchvision's fcn_resnet50 and fcn_resnet101 become `fcn`, segmentation-models-pytorch's Unet becomes `unet`. Its
    single class becomes two: background with a logit of 0, and the class. A .caffemodel of the authors of FCN, SegNet,
    DeconvNet or DeepLab-LargeFOV becomes the paper's network ("paper/fcn8s"), which takes images as they fed it. No
    code in a file is run.

    Args:
        weights: the path of a file of weights (.safetensors, a state_dict saved by torch.save, or a .caffemodel); the
            folder that segmentation-models-pytorch's save_pretrained wrote; or a state_dict.
        source: "torchvision" or "smp"; None recognises it by the names of the tensors.
        encoder: its name in timm's or the library's words, where neither tensors nor config.json tell: "tu-resnet34".
        labels: a `LabelSet` or the name of one; None takes "voc" for torchvision's 21 classes, else generic names.
        num_classes: another number than the checkpoint has gives the model a new head, with random weights.
        upsample: "nearest" or "bilinear", the decoder_interpolation of smp's Unet, which a bare state_dict does not
            tell; None takes that of config.json, else smp's own default, "nearest".
        strict: False loads what fits, and warns (UserWarning) of what it left out and of what is random therefore.

    Returns:
        a model in eval mode, on the CPU, in float32.

    Raises:
        CheckpointError: unreadable, not recognised, or not expressible; or, if strict, with tensors missing or left
            over, which are named.
        PairingError: an encoder that does not keep exact fractions of the image (timm's Inception): no equal logits.
        UnknownNameError, OptionError: `source`, `encoder` or `labels` that segzoo does not know.
    """
    if source is not None and source not in SOURCES:
        raise unknown_source(str(source))
    if isinstance(weights, str | os.PathLike) and not os.fspath(weights):
        raise CheckpointError("The path of the weights is empty. Pass that of a file, or of smp's folder.")
    if isinstance(weights, str | os.PathLike) and Path(weights).suffix == ".caffemodel":
        chosen = {"source": source, "encoder": encoder, "upsample": upsample}
        given = [f"{name}=" for name, value in chosen.items() if value is not None]
        if given:
            raise OptionError(f"A .caffemodel says itself what it holds: it takes no {' and no '.join(given)}.")
        return with_classes(_from_caffe(Path(weights)), num_classes, labels)
    tensors, settings = _read(weights)
    if settings is not None:
        if source not in (None, "smp"):
            raise CheckpointError(f"{weights} is a folder of segmentation-models-pytorch, not of {source}.")
        source = "smp"
        encoder = encoder or settings["encoder_name"]
        upsample = upsample or settings.get("decoder_interpolation")
    source, tensors = _recognise(tensors, source)
    if source == "torchvision":
        if upsample is not None:
            raise OptionError("upsample= is for smp's Unet; torchvision's FCN interpolates bilinearly, always.")
        foreign = torchvision.understood(tensors, encoder)
    else:
        foreign = smp.understood(tensors, encoder, upsample or "nearest")
    # A plan on the meta device first: nothing is allocated for weights that do not fit.
    with torch.device("meta"):
        in_channels = _in_channels(_build(foreign, 3), foreign)
        plan = _build(foreign, in_channels)
    _check_sizes(plan, foreign)
    found, said, names = _compare(plan.state_dict(), foreign)
    if said and (strict or not found):
        raise CheckpointError(f"The weights are not those of {foreign.origin}. {said} strict=False loads what fits.")
    model = _build(foreign, in_channels)
    model.load_state_dict(found, strict=False)
    model.with_info(converted_from=foreign.origin, **names)
    if said:
        warnings.warn(f"Not all of {foreign.origin} was loaded; what is missing is random. {said}", stacklevel=2)
    if num_classes is None and labels is None:
        labels = foreign.labels
    return with_classes(model.eval(), num_classes, labels)


def _from_caffe(path: Path) -> SegmentationModel:
    """The paper's network, with the file's own weights and no copy of them."""
    weights = convert_caffe(read_caffemodel(path))
    name = f"paper/{weights.network}"
    with torch.device("meta"):
        model = create(name, num_classes=weights.num_classes)
    wanted = model.state_dict()
    for key, tensor in weights.tensors.items():
        if tensor.shape != wanted[key].shape:
            raise CheckpointError(
                f"{path} is a variant of {name}: its {key} is {tuple(tensor.shape)}, not {tuple(wanted[key].shape)}. "
                "segzoo.weights.convert.caffe.convert_caffe(read_caffemodel(path)) gives the tensors by name."
            )
    model.load_state_dict(weights.tensors, assign=True)
    model.with_info(
        converted_from=f"Caffe, {weights.network}", **({"notes": list(weights.notes)} if weights.notes else {})
    )
    return model.eval()


def _build(foreign: Foreign, in_channels: int) -> EncoderDecoder:
    model = create(
        foreign.decoder,
        foreign.encoder,
        foreign.num_classes,
        in_channels=in_channels,
        output_stride=foreign.output_stride,
        **foreign.options,
    )
    if foreign.normalisation is not None and in_channels == 3:
        model.mean, model.std = foreign.normalisation
    assert isinstance(model, EncoderDecoder)  # Foreign names an encoder
    return model


def _read(weights: Any) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The tensors, and the settings where they lie in a folder beside them."""
    if isinstance(weights, Mapping):
        if not weights or not all(isinstance(v, Tensor) and isinstance(k, str) for k, v in weights.items()):
            raise CheckpointError("A state_dict maps names to tensors, and this one holds none, or something else too.")
        return dict(weights), None
    if not isinstance(weights, str | os.PathLike):
        raise OptionError(
            f"convert takes a path or a state_dict, not {type(weights).__name__}; model.state_dict() gives one."
        )
    path = Path(weights)
    if not path.is_dir():
        return read(path), None
    settings = smp.settings(path)
    # The two names that save_pretrained has had; config.json is never asked for one.
    files = [path / name for name in ("model.safetensors", "pytorch_model.bin")]
    return read(next((file for file in files if file.is_file()), files[0])), settings


def _recognise(tensors: dict[str, Tensor], source: str | None) -> tuple[str, dict[str, Tensor]]:
    """Whose tensors these are, and the tensors without what a training program put before their names."""
    for wrapper in _WRAPPERS:
        bare = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
        for name, library in SOURCES.items():
            if source in (None, name) and library.recognised(bare):
                return name, bare
    if any(name.startswith("encoder.net.") for name in tensors):
        raise CheckpointError("These are the weights of a segzoo model: segzoo.load loads the file of one.")
    known = " and ".join(library.KNOWN for name, library in SOURCES.items() if source in (None, name))
    raise CheckpointError(
        f"segzoo recognises the weights of {known}, and these are not; they begin with "
        f"{some(list(tensors), 3) or 'nothing'}."
    )


def _in_channels(plan: SegmentationModel, foreign: Foreign) -> int:
    """The channels of the image: the first convolution that takes three in a model for three says how many it has."""
    stem = next((name for name, tensor in plan.state_dict().items() if tensor.ndim == 4 and tensor.shape[1] == 3), None)
    for theirs, ours in foreign.names.items():
        if ours == stem and foreign.tensors[theirs].ndim == 4:
            return foreign.tensors[theirs].shape[1]
    return 3


def _check_sizes(model: EncoderDecoder, foreign: Foreign) -> None:
    """Refuses an encoder that loses rows on its way down: both libraries then resize, each in its own way."""
    size = 8 * model.multiple
    deepest = dry_run(model.encoder, model.config.in_channels, size)[-1]
    if deepest.shape[-1] * model.encoder.features.strides[-1] != size:
        raise PairingError(
            f"{foreign.origin} cannot be converted to the same logits: encoder {foreign.encoder!r} does not keep "
            f"exactly 1/{model.encoder.features.strides[-1]} of the image, and each library then resizes differently."
        )


def _compare(wanted: Mapping[str, Tensor], foreign: Foreign) -> tuple[dict[str, Tensor], str, dict[str, list[str]]]:
    """The tensors that fit, by segzoo's names; and what is missing and left over: as a sentence, and as lists."""
    found: dict[str, Tensor] = {}
    left_out = []
    for theirs, tensor in foreign.tensors.items():
        own = wanted.get(foreign.names.get(theirs, ""))
        if own is None:
            left_out.append(theirs)
        elif (tensor.layout, tensor.is_floating_point()) != (own.layout, own.is_floating_point()):
            left_out.append(f"{theirs}, which holds {tensor.dtype} ({tensor.layout})")
        elif tensor.shape != own.shape:
            left_out.append(f"{theirs} {tuple(tensor.shape)}, where {tuple(own.shape)} is wanted")
        else:
            found[foreign.names[theirs]] = tensor
    # Counters are absent from files made before torch 0.4.1.
    missing = [name for name in wanted if name not in found and not name.endswith(".num_batches_tracked")]
    said = [f"Missing: {some(missing, 20)} (segzoo's names)."] if missing else []
    said += [f"Left over: {some(left_out, 20)}."] if left_out else []
    names = {"random_weights": missing, "left_out": left_out}
    return found, " ".join(said), {key: value for key, value in names.items() if value}
