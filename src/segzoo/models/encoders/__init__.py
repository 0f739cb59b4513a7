"""Encoders by name: any timm model that forms a feature pyramid, and U-Net's contracting path.

Names are timm's, with or without a tag. Two short names, and "unet", are segzoo's.
"""

from fnmatch import fnmatch

import timm
from timm.models import is_model_in_modules

from segzoo import _registry
from segzoo._arguments import explained
from segzoo.errors import OptionError, UnknownNameError, unknown
from segzoo.models.encoders.base import Encoder
from segzoo.models.encoders.pretrained import is_path
from segzoo.models.encoders.timm_encoder import TimmEncoder

# From creating each of the 1,371 networks of timm 1.0.31. `create_encoder` does not use these lists: it measures.
_NO_PYRAMID = (
    "beit cait coat convit convmixer crossvit deepseek_vit deit efficientformer efficientformer_v2 eva gcvit "
    "gemma4_vit levit mlp_mixer naflexvit nest pit qwen3_vit sequencer tnt visformer vision_transformer "
    "vision_transformer_hybrid vision_transformer_relpos vision_transformer_sam vitamin volo xcit"
)
_FIXED_SIZE = ["coatn*", "test_coatnet", "haloregnetz_b", "hiera_*_224", "swinv2_cr_*"]

__all__ = ["Encoder", "create_encoder", "list_encoders"]


def create_encoder(
    name: str, *, in_channels: int = 3, output_stride: int = 32, weights: str | None = None, measure: bool = True
) -> Encoder:
    """Builds an encoder.

    Args:
        name: "vgg16", "resnet101", "xception", "mobilenet", "unet", or any timm name that forms a pyramid.
        in_channels: channels of the image, 1 to 16.
        output_stride: stride of the deepest map: 32 is the plain network, 8 and 16 need dilation.
        weights: None, "imagenet", a timm tag ("a1_in1k" or "resnet101.a1_in1k"), or the path of a file.
        measure: False skips the dry run that checks the pyramid, for a network that passed it before.

    Raises:
        UnknownNameError: there is no such encoder.
        OptionError: in_channels or output_stride is out of range.
        PairingError: the network forms no pyramid, or does not support this output stride.
        DownloadError, CheckpointError: the weights cannot be loaded, or do not fit.
    """
    if not 1 <= in_channels <= 16:
        raise OptionError(f"in_channels must be 1 to 16, not {in_channels}.")
    if output_stride not in (8, 16, 32):
        raise OptionError(f"output_stride is 8, 16 or 32, not {output_stride}.")
    if name in _registry.ENCODERS:
        if weights is not None:
            raise UnknownNameError(f"There are no pretrained weights for encoder {name!r}. Use encoder_weights=None.")
        encoder: Encoder = _registry.ENCODERS.load(name)(in_channels, output_stride)
        return encoder
    full = _registry.SHORT_NAMES.get(name, name)
    architecture, _, tag = full.partition(".")
    if not timm.is_model(architecture):
        raise unknown(
            "encoder",
            name,
            [*_registry.ENCODERS, *_registry.SHORT_NAMES, *timm.list_models()],
            "segzoo.list_encoders('*res*') lists more.",
        )
    if tag:
        _check_tag(architecture, tag)
    if weights is not None and weights != "imagenet" and not is_path(weights):
        weights_tag = weights.removeprefix(f"{architecture}.")
        _check_tag(architecture, weights_tag)
        full, weights = f"{architecture}.{weights_tag}", "imagenet"
    return TimmEncoder(full, in_channels, None if output_stride == 32 else output_stride, weights, measure)


def _check_tag(architecture: str, tag: str) -> None:
    known = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag not in known:
        raise unknown(
            f"weights tag of {architecture!r}",
            tag,
            known,
            f"Its tags: {', '.join(known) or 'none'}. For a file, pass its path with the extension.",
        )


@explained
def list_encoders(pattern: str = "*") -> list[str]:
    """Names of the encoders that match a shell pattern, segzoo's short names first.

    timm's networks that cannot be encoders are left out: plain vision transformers, which have a single stride, and
    networks for one fixed image size.

    Args:
        pattern: such as "*resnet*"; "*" lists all, more than 800.
    """
    names = [*_registry.SHORT_NAMES, *timm.list_models(exclude_filters=_FIXED_SIZE)]
    ours = [name for name in _registry.ENCODERS if fnmatch(name, pattern)]
    return ours + [n for n in names if fnmatch(n, pattern) and not is_model_in_modules(n, _NO_PYRAMID.split())]
