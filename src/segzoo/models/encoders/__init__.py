"""Encoders by name: any timm model that forms a feature pyramid, and U-Net's own contracting path.

Names are timm's, with a tag or without. Two short ones, and "unet", are the zoo's own.
"""

from fnmatch import fnmatch

import timm
from timm.models import is_model_in_modules

from segzoo.errors import OptionError, UnknownNameError, unknown
from segzoo.models.encoders.base import Encoder
from segzoo.models.encoders.timm_encoder import TimmEncoder
from segzoo.models.encoders.unet import UNetEncoder
from segzoo.models.encoders.weights import is_path

SHORT_NAMES = {"xception": "legacy_xception", "mobilenet": "mobilenetv2_100"}
"""What timm calls the networks that everybody calls so; vgg16 and resnet101 are timm's own names already."""

# Found by creating each of the 1,371 networks of timm 1.0.31. `create_encoder` does not ask these lists, it measures.
_NO_PYRAMID = (
    "beit cait coat convit convmixer crossvit deepseek_vit deit efficientformer efficientformer_v2 eva gcvit "
    "gemma4_vit levit mlp_mixer naflexvit nest pit qwen3_vit sequencer tnt visformer vision_transformer "
    "vision_transformer_hybrid vision_transformer_relpos vision_transformer_sam vitamin volo xcit"
)
_FIXED_SIZE = ["coatn*", "test_coatnet", "haloregnetz_b", "hiera_*_224", "swinv2_cr_*"]

__all__ = ["SHORT_NAMES", "Encoder", "create_encoder", "list_encoders"]


def create_encoder(
    name: str, *, in_channels: int = 3, output_stride: int = 32, weights: str | None = None, measure: bool = True
) -> Encoder:
    """Builds an encoder.

    Args:
        name: "vgg16", "resnet101", "xception", "mobilenet", "unet", or any timm name that forms a pyramid.
        in_channels: channels of the image, 1 to 16.
        output_stride: the stride of the deepest map: 32 is the plain network, 8 and 16 are had by dilation.
        weights: None, "imagenet", a timm tag ("a1_in1k" or "resnet101.a1_in1k"), or the path of a file.
        measure: False leaves out the dry run that proves the pyramid, for a network that had it when it was made.

    Raises:
        UnknownNameError: no such encoder.
        OptionError: in_channels or output_stride out of range.
        PairingError: it forms no pyramid, or cannot have this output stride.
        DownloadError, CheckpointError: the weights cannot be had or do not fit.
    """
    if not 1 <= in_channels <= 16:
        raise OptionError(f"in_channels is 1 to 16, not {in_channels}.")
    if output_stride not in (8, 16, 32):
        raise OptionError(f"output_stride is 8, 16 or 32, not {output_stride}.")
    if name == "unet":
        if weights is not None:
            raise UnknownNameError("There are no pretrained weights for encoder 'unet'; leave encoder_weights=None.")
        return UNetEncoder(in_channels, output_stride)
    full = SHORT_NAMES.get(name, name)
    architecture, _, tag = full.partition(".")
    if not timm.is_model(architecture):
        raise unknown(
            "encoder", name, ["unet", *SHORT_NAMES, *timm.list_models()], "segzoo.list_encoders('*res*') lists more."
        )
    if tag:
        _check_tag(architecture, tag)
    if weights is not None and weights != "imagenet" and not is_path(weights):
        asked = weights.removeprefix(f"{architecture}.")
        _check_tag(architecture, asked)
        full, weights = f"{architecture}.{asked}", "imagenet"
    return TimmEncoder(full, in_channels, None if output_stride == 32 else output_stride, weights, measure)


def _check_tag(architecture: str, tag: str) -> None:
    known = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag not in known:
        raise unknown(
            f"weights tag of {architecture!r}",
            tag,
            known,
            f"It has {', '.join(known) or 'none'}; a file is given by its path, ending and all.",
        )


def list_encoders(pattern: str = "*") -> list[str]:
    """Names of encoders that match a shell pattern, the zoo's short names first.

    Left out are timm's networks that cannot be one: plain vision transformers, which keep one stride throughout, and
    networks tied to one image size.

    Args:
        pattern: such as "*resnet*"; "*" lists all, more than eight hundred.
    """
    names = ["unet", *SHORT_NAMES, *timm.list_models(exclude_filters=_FIXED_SIZE)]
    return [n for n in names if fnmatch(n, pattern) and not is_model_in_modules(n, _NO_PYRAMID.split())]
