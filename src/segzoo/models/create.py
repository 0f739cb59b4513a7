"""create, save, rebuild: models by name, and models in files."""

import hashlib
import math
import operator
import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segzoo._io import written_aside
from segzoo._registry import unknown_decoder
from segzoo._version import __version__
from segzoo.classes import LabelSet, label_set
from segzoo.errors import CheckpointError, OptionError, PairingError, SegzooError
from segzoo.models.base import EncoderDecoder, ModelConfig, SegmentationModel
from segzoo.models.decoders import DECODERS, Decoder
from segzoo.models.encoders import Encoder, create_encoder
from segzoo.models.encoders.classifier import hidden_weights
from segzoo.models.papers import PAPERS, Paper
from segzoo.schema import check_options
from segzoo.weights import checkpoint
from segzoo.weights.card import model_card
from segzoo.weights.catalog import entries
from segzoo.weights.hub import FILE
from segzoo.weights.resolve import locate


def create(
    decoder: str,
    encoder: str | None = None,
    num_classes: int | None = None,
    *,
    in_channels: int | None = None,
    encoder_weights: str | os.PathLike[str] | None = None,
    output_stride: int | None = None,
    labels: str | LabelSet | None = None,
    **options: Any,
) -> SegmentationModel:
    """Builds a model by name, with random weights unless `encoder_weights` says otherwise.

    Args:
        decoder: "fcn32s", "fcn16s", "fcn8s", "fcn", "unet", "segnet", "deconvnet", "deeplab_largefov"; or the name of
            a paper's network, whole and to the letter, such as "paper/fcn8s" (`list_models`).
        encoder: "vgg16", "resnet101", "xception", "mobilenet", or any timm name that forms a pyramid
            (`list_encoders`); None takes the paper's own. A paper's network has none to choose.
        num_classes: at least 2, background counted. None takes the number of `labels`, or without these the paper
            network's own, and 21 of anything else.
        in_channels: channels of the image, 1 to 16; None is 3, or the paper network's own.
        encoder_weights: None, "imagenet" (timm's weights, fetched), a timm tag ("a1_in1k"), the path of a timm or
            torchvision file, or a segzoo model with this encoder: its path, or its key in the catalog. With VGG they
            also fill the decoder's fc6 and fc7, where it has them. They fill the VGG16 of a paper's network too, which
            then takes images as these weights want them.
        output_stride: stride of the encoder's deepest map, 8, 16 or 32; None takes the decoder's own.
        labels: a `LabelSet` or the name of one, such as "camvid" or "voc"; None names the classes "class 0" and so on.
        options: the decoder's own, such as upsample="bilinear", auxiliary=True; a name that it lacks is an error.

    Returns:
        a model in training mode, as any new torch module is.

    Raises:
        UnknownNameError: a name that segzoo does not know; near ones are suggested.
        OptionError: a value that an argument cannot take.
        PairingError: encoder and decoder cannot work together; the message names a pairing that works.
        DownloadError, CheckpointError: the encoder's weights cannot be had, or do not fit.
    """
    kind = _kind(decoder)
    if encoder_weights is not None and not isinstance(encoder_weights, str | os.PathLike):
        raise OptionError(
            f"encoder_weights is None, 'imagenet', a timm tag or the path of a file, not {encoder_weights!r}."
        )
    if encoder_weights is not None and _is_model(encoder_weights):
        encoder_weights = locate(encoder_weights).path
    encoder_weights = None if encoder_weights is None else os.fspath(encoder_weights)
    if encoder is not None and not isinstance(encoder, str):
        raise OptionError(
            f"encoder is a name such as 'resnet101', not {encoder!r}. num_classes= is the number of classes."
        )
    check_options(decoder, kind, options)
    labels = _labels(labels)
    own_classes, own_channels = (kind.classes, kind.channels) if issubclass(kind, Paper) else (21, 3)
    if num_classes is None:
        num_classes = own_classes if labels is None else len(labels)
    num_classes = _whole("num_classes", num_classes)
    in_channels = own_channels if in_channels is None else _whole("in_channels", in_channels)
    if issubclass(kind, Paper):
        chosen = {"encoder": encoder, "output_stride": output_stride}
        given = [name for name, value in chosen.items() if value is not None]
        if given:
            raise PairingError(f"{decoder!r} is a whole network: it takes no {' and no '.join(given)}.")
        if not 1 <= in_channels <= 16:
            raise OptionError(f"in_channels is 1 to 16, not {in_channels}.")
        labels = _labels_for(num_classes, labels)
        config = ModelConfig(decoder, None, num_classes, labels, in_channels, None, options)
        return _build(config, encoder_weights)
    config = ModelConfig(
        decoder=decoder,
        encoder=kind.encoder if encoder is None else encoder,
        num_classes=num_classes,
        labels=_labels_for(num_classes, labels),
        in_channels=in_channels,
        output_stride=kind.output_strides[0] if output_stride is None else _whole("output_stride", output_stride),
        options=options,
    )
    return _build(config, encoder_weights)


def list_models() -> list[str]:
    """The first argument of `create`: names of the decoders, then of the papers' networks."""
    return [*DECODERS, *PAPERS]


def save(model: SegmentationModel, path: str | os.PathLike[str], *, half: bool = False) -> Path:
    """Writes one .safetensors that `load` rebuilds the model from, with nothing beside it that it needs.

    Written aside and renamed: an existing file is replaced whole or not at all.

    Args:
        path: the file; ".safetensors" is added where it is missing. Or a folder, one that is there or a path that ends
            with a slash: it gets model.safetensors, and a README.md, the model card of the hub, unless it has one.
        half: store kernels as float16, in half the space. What has one axis (biases, and what belongs to
            normalisation) is a hundredth of the weights and stays as it is. `load` gives float32 in any case.

    Returns:
        the path of the .safetensors written.

    Raises:
        CheckpointError: it cannot be written there, or a weight is too large for float16.
    """
    if not isinstance(model, SegmentationModel):
        raise CheckpointError(f"segzoo.save takes a model of segzoo.create or load, not {type(model).__name__}.")
    target = Path(path)
    if target.is_dir() or os.fspath(path).endswith(("/", os.sep)):
        return _save_folder(model, target, half)
    if target.suffix != ".safetensors":
        target = target.with_name(f"{target.name}.safetensors")
    checkpoint.write(target, _stored(model, half), record(model))
    return target


def _stored(model: SegmentationModel, half: bool) -> dict[str, Tensor]:
    return checkpoint.halved(model.state_dict()) if half else model.state_dict()


def _save_folder(model: SegmentationModel, folder: Path, half: bool) -> Path:
    target, readme = folder / FILE, folder / "README.md"
    try:
        folder.mkdir(exist_ok=True)
        checkpoint.write(target, _stored(model, half), record(model))
        if not readme.exists():  # a card is meant to be edited
            with written_aside(readme) as draft:
                draft.write_text(model_card(record(model), count(model), "path/to/this/folder"), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"Cannot write {folder}: {error}.") from error
    return target


def rebuild(path: str | os.PathLike[str]) -> SegmentationModel:
    """The model that `save` wrote to a file, in eval mode, on the CPU, in float32; `segzoo.load` finds the file.

    No weight is initialised only to be overwritten: the model is built on the meta device and takes the file's tensors.

    Raises:
        CheckpointError: no such file, truncated, foreign, or of another shape than it says; nothing is half-loaded.
    """
    target = Path(path)
    found, tensors = checkpoint.read(target)
    try:
        config = _config(found)
        with torch.device("meta"):
            model = _build(config, measure=False)  # whoever saved it had measured it
        model.mean, model.std = _normalisation(found, config.in_channels)
    except (KeyError, TypeError, ValueError, AttributeError, SegzooError) as error:
        written = found.get("version", "?")
        raise CheckpointError(
            f"{target} describes a model that this segzoo cannot build: {error!s} (written by segzoo {written}, "
            f"this is {__version__})."
        ) from error
    wanted = model.state_dict()
    _check_tensors(target, wanted, tensors)
    # A file of half the size computes as any other.
    model.load_state_dict({name: tensor.to(wanted[name].dtype) for name, tensor in tensors.items()}, assign=True)
    leftover = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    if leftover:
        # Buffers that are computed and not stored (swin's window masks) have no values on the meta device.
        computed = dict(_build(config).named_buffers())
        for name in leftover:
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, computed[name])
    return model.eval()


def with_classes(
    model: SegmentationModel, num_classes: int | None = None, labels: str | LabelSet | None = None
) -> SegmentationModel:
    """The model with another head, or other labels; None for both is the model as it is.

    The head is whatever has another shape in a model of `num_classes` classes; it gets random weights, and all other
    weights are kept (and shared). What the file said of the old weights is kept as `info["started_from"]`.

    Raises:
        OptionError: num_classes below 2, or labels of another number.
    """
    labels = _labels(labels)
    old = model.config
    if num_classes is None and labels is not None and len(labels) != old.num_classes:
        raise OptionError(
            f"The weights are for {old.num_classes} classes, and the label set names {len(labels)}. "
            f"num_classes={len(labels)} gives the model a new head, to be trained."
        )
    num_classes = old.num_classes if num_classes is None else _whole("num_classes", num_classes)
    if num_classes == old.num_classes:
        model.config = replace(old, labels=old.labels if labels is None else _labels_for(num_classes, labels))
        return model
    started_from = {**old.info, "num_classes": old.num_classes}
    config = replace(
        old, num_classes=num_classes, labels=_labels_for(num_classes, labels), info={"started_from": started_from}
    )
    fresh = _build(config).to(next(model.parameters()).dtype)
    own = fresh.state_dict()
    kept = {name: tensor for name, tensor in model.state_dict().items() if tensor.shape == own[name].shape}
    fresh.load_state_dict(kept, strict=False, assign=True)
    fresh.mean, fresh.std = model.mean, model.std
    fresh.remember_new_head(own.keys() - kept.keys())
    return fresh.train(model.training)


def record(model: SegmentationModel) -> dict[str, Any]:
    """What a file says of a model, as JSON values: the header of a checkpoint, and of an exported graph."""
    config = model.config
    return {
        "version": __version__,
        "decoder": config.decoder,
        "encoder": config.encoder,
        "num_classes": config.num_classes,
        "in_channels": config.in_channels,
        "output_stride": config.output_stride,
        "options": config.options,
        "labels": config.labels.to_dict(),
        "mean": list(model.mean),
        "std": list(model.std),
        "channel_order": model.channel_order,
        "info": config.info,
    }


def count(module: nn.Module) -> int:
    """The number of parameters, of a model or of a part of one."""
    return sum(parameter.numel() for parameter in module.parameters())


def weights_sha256(model: SegmentationModel) -> str:
    """The sha256 of all weights: name, type, shape and bytes of each tensor, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _config(found: Mapping[str, Any]) -> ModelConfig:
    kind = _kind(found["decoder"])
    check_options(found["decoder"], kind, found["options"])
    return ModelConfig(
        decoder=found["decoder"],
        encoder=found["encoder"],
        num_classes=_whole("num_classes", found["num_classes"]),
        labels=_labels_for(found["num_classes"], LabelSet.from_dict(found["labels"])),
        in_channels=_whole("in_channels", found["in_channels"]),
        output_stride=found["output_stride"],
        options=found["options"],
        info=dict(found["info"]),
    )


def _normalisation(found: Mapping[str, Any], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean, std = (tuple(map(float, found[key])) for key in ("mean", "std"))
    if not len(mean) == len(std) == channels or not all(map(math.isfinite, mean + std)) or min(std) <= 0:
        raise OptionError(f"mean and std are {channels} numbers each, std above 0, not {mean} and {std}.")
    return mean, std


def _build(config: ModelConfig, encoder_weights: str | None = None, measure: bool = True) -> SegmentationModel:
    kind = _kind(config.decoder)
    if issubclass(kind, Paper):
        paper = kind(config, **config.options)
        if encoder_weights is not None and not paper.start_from(encoder_weights):
            why = f"{encoder_weights} holds no classifier of their shape"
            warnings.warn(f"fc6 and fc7 of the {kind.__name__} start at random: {why}.", stacklevel=3)
        return paper
    if config.encoder is None or config.output_stride is None:
        raise OptionError(f"Decoder {config.decoder!r} needs an encoder and an output stride.")
    works = f"segzoo.create({config.decoder!r}, encoder={kind.encoder!r}) works."
    if config.output_stride not in kind.output_strides:
        raise PairingError(
            f"Decoder {config.decoder!r} works at output_stride {' or '.join(map(str, kind.output_strides))}, "
            f"not {config.output_stride}."
        )
    try:
        encoder = create_encoder(
            config.encoder,
            in_channels=config.in_channels,
            output_stride=config.output_stride,
            weights=encoder_weights,
            measure=measure,
        )
    except PairingError as error:
        hint = (
            ""
            if config.output_stride == 32 or 32 not in kind.output_strides
            else " output_stride=32 needs no dilation."
        )
        raise PairingError(f"{error}{hint} {works}") from None
    _check_levels(config, kind, encoder, works)
    decoder = kind(encoder.features, config.num_classes, **config.options)
    if encoder_weights is not None and kind.has_hidden and encoder.features.classifier:
        _load_hidden(decoder, encoder, encoder_weights)
    return EncoderDecoder(encoder, decoder, config)


def _is_model(encoder_weights: str | os.PathLike[str]) -> bool:
    """Whether weights for an encoder are a key, or look like one: then near keys are suggested."""
    path = Path(encoder_weights)
    looks = isinstance(encoder_weights, str) and len(path.parts) == 3 and not path.is_absolute() and not path.suffix
    return encoder_weights in entries() or path.is_dir() or (looks and not path.exists())


def _labels(labels: Any) -> LabelSet | None:
    if isinstance(labels, str):
        return label_set(labels)
    if labels is not None and not isinstance(labels, LabelSet):
        raise OptionError(f"labels is the name of a label set or a segzoo.LabelSet, not {labels!r}.")
    return labels


def _labels_for(num_classes: int, labels: LabelSet | None) -> LabelSet:
    """The labels of so many classes, generic where there are none."""
    if num_classes < 2:
        raise OptionError(f"num_classes is at least 2, background counted, not {num_classes}.")
    labels = labels or LabelSet.generic(num_classes)
    if len(labels) != num_classes:
        raise OptionError(f"num_classes={num_classes}, but the label set names {len(labels)} classes.")
    return labels


def _load_hidden(decoder: Decoder, encoder: Encoder, encoder_weights: str) -> None:
    """fc6 and fc7 from the classifier that the encoder's weights belong to, as the papers start them."""
    weights = hidden_weights(encoder.name, encoder_weights, encoder.features.channels[-1])
    if weights is None or not decoder.load_hidden(weights):
        why = "holds no classifier" if weights is None else "has hidden layers of another shape"
        warnings.warn(
            f"fc6 and fc7 of the {type(decoder).__name__} start at random: {encoder_weights} {why}.",
            stacklevel=4,
        )


def _kind(name: str) -> type[Decoder] | type[Paper]:
    if not isinstance(name, str):
        raise OptionError(f"The decoder is a name such as 'unet', not {name!r}.")
    kinds: dict[str, type[Decoder] | type[Paper]] = {**DECODERS, **PAPERS}
    if name not in kinds:
        raise unknown_decoder(name)
    return kinds[name]


def _whole(name: str, value: Any) -> int:
    """numpy's integers too, as plain ones, which JSON can hold."""
    try:
        return operator.index(value)
    except TypeError:
        raise OptionError(f"{name} is a whole number, not {value!r}.") from None


def _check_levels(config: ModelConfig, kind: type[Decoder], encoder: Encoder, works: str) -> None:
    missing = [level for level in kind.levels if level not in encoder.features.levels]
    if missing:
        raise PairingError(
            f"Decoder {config.decoder!r} needs levels {list(kind.levels)} (1/{2 ** max(kind.levels)} of the image at "
            f"the deepest), and encoder {config.encoder!r} has {list(encoder.features.levels)}. {works}"
        )


def _check_tensors(path: Path, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    faults = [f"lacks {name}" for name in wanted if name not in found]
    faults += [f"has {name}, which the model has not" for name in found if name not in wanted]
    faults += [
        f"has {name} as {tuple(found[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise CheckpointError(f"{path} does not hold the model it describes: it {'; it '.join(faults[:3])}{more}.")
