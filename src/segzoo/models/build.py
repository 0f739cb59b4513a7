"""`build`: the network that a `ModelSpec` describes."""

import warnings

from segzoo._registry import unknown_decoder
from segzoo.classes import ClassSet
from segzoo.errors import OptionError, PairingError
from segzoo.models.base import EncoderDecoder, SegmentationModel
from segzoo.models.decoders import DECODERS, Decoder
from segzoo.models.encoders import Encoder, create_encoder
from segzoo.models.encoders.fc6_fc7 import fc6_fc7_weights
from segzoo.models.papers import PAPERS, Paper
from segzoo.spec import ModelSpec


def build(spec: ModelSpec, encoder_weights: str | None = None, measure: bool = True) -> SegmentationModel:
    """The network of a spec, in training mode, with random weights unless `encoder_weights` is given.

    The model's spec is complete: it also has the size divisibility, the channel order, and the mean and standard
    deviation. If the given spec has none, they are those that the weights expect.

    Args:
        encoder_weights: as for `create_encoder`.
        measure: False skips the dry run that checks the encoder's pyramid, for a network that passed it before.

    Raises:
        OptionError, PairingError, UnknownNameError, DownloadError, CheckpointError: as `segzoo.create`.
    """
    if (spec.task, spec.input_dtype) != ("multiclass", "uint8"):
        raise OptionError(
            f"{spec.title} is a {spec.task} model for {spec.input_dtype} images, but this segzoo only builds "
            "multiclass models for uint8 images. Update segzoo."
        )
    network = network_class(spec.decoder)
    classes_for(len(spec.classes), spec.classes)
    if not 1 <= spec.in_channels <= 16:
        raise OptionError(f"in_channels must be 1 to 16, not {spec.in_channels}.")
    if issubclass(network, Paper):
        paper = network(spec, **spec.options)
        if encoder_weights is not None and not paper.start_from(encoder_weights):
            reason = f"{encoder_weights} holds no classifier of their shape"
            warnings.warn(f"fc6 and fc7 of the {network.__name__} start at random: {reason}.", stacklevel=3)
        return paper
    if spec.encoder is None or spec.output_stride is None:
        raise OptionError(f"Decoder {spec.decoder!r} needs an encoder and an output stride.")
    alternative = f"segzoo.create({spec.decoder!r}, encoder={network.default_encoder!r}) works."
    if spec.output_stride not in network.output_strides:
        raise PairingError(
            f"Decoder {spec.decoder!r} works at output_stride {' or '.join(map(str, network.output_strides))}, "
            f"not {spec.output_stride}."
        )
    try:
        encoder = create_encoder(
            spec.encoder,
            in_channels=spec.in_channels,
            output_stride=spec.output_stride,
            weights=encoder_weights,
            measure=measure,
        )
    except PairingError as error:
        can_avoid_dilation = spec.output_stride != 32 and 32 in network.output_strides
        hint = " output_stride=32 needs no dilation." if can_avoid_dilation else ""
        raise PairingError(f"{error}{hint} {alternative}") from None
    missing = [level for level in network.levels if level not in encoder.features.levels]
    if missing:
        raise PairingError(
            f"Decoder {spec.decoder!r} needs levels {list(network.levels)} (1/{2 ** max(network.levels)} of the image "
            f"at the deepest), and encoder {spec.encoder!r} has {list(encoder.features.levels)}. {alternative}"
        )
    decoder = network(encoder.features, spec.num_classes, **spec.options)
    if encoder_weights is not None and network.has_fc6_fc7 and encoder.features.fc_head:
        _load_fc6_fc7(decoder, encoder, encoder_weights)
    return EncoderDecoder(encoder, decoder, spec)


def network_class(name: str) -> type[Decoder] | type[Paper]:
    """The class of a decoder, or of a paper's network.

    Raises:
        UnknownNameError: there is no decoder or network of that name.
        OptionError: it is not a string.
    """
    if not isinstance(name, str):
        raise OptionError(f"The decoder must be a name such as 'unet', not {name!r}.")
    for networks in (DECODERS, PAPERS):
        if name in networks:
            return networks[name]
    raise unknown_decoder(name)


def classes_for(num_classes: int, classes: ClassSet | None) -> ClassSet:
    """The given class set, or a generic one of `num_classes` classes.

    Raises:
        OptionError: `num_classes` is below 2, or the class set has another number of classes.
    """
    if num_classes < 2:
        raise OptionError(f"num_classes must be at least 2, including the background, not {num_classes}.")
    classes = classes or ClassSet.generic(num_classes)
    if len(classes) != num_classes:
        raise OptionError(f"num_classes={num_classes}, but the class set names {len(classes)} classes.")
    return classes


def _load_fc6_fc7(decoder: Decoder, encoder: Encoder, encoder_weights: str) -> None:
    """Initializes fc6 and fc7 from the classifier that belongs to the encoder's weights, as in the papers."""
    weights = fc6_fc7_weights(encoder.name, encoder_weights, encoder.features.channels[-1])
    if weights is None or not decoder.load_fc6_fc7(weights):
        reason = "holds no classifier" if weights is None else "has hidden layers of another shape"
        warnings.warn(
            f"fc6 and fc7 of the {type(decoder).__name__} start at random: {encoder_weights} {reason}.",
            stacklevel=4,
        )
