"""Descriptions of models that have to be built for it: numbers of parameters, and what an encoder returns."""

import dataclasses
from collections.abc import Callable

import timm
import torch

from segzoo import _docstrings
from segzoo._descriptions import (
    DecoderDescription,
    EncoderDescription,
    PaperDescription,
    options,
)
from segzoo._registry import ENCODERS, SHORT_NAMES
from segzoo.errors import PairingError
from segzoo.models.base import EncoderDecoder
from segzoo.models.create import create
from segzoo.models.encoders import create_encoder, list_encoders
from segzoo.models.papers import PAPERS
from segzoo.models.parameters import count_parameters

__all__ = ["describe_encoder", "describe_paper", "is_encoder", "list_encoders", "with_parameters"]


def with_parameters(name: str, description: DecoderDescription) -> DecoderDescription:
    """The description of a decoder with its numbers of parameters."""
    with torch.device("meta"):
        model = create(name)
    assert isinstance(model, EncoderDecoder)  # always, for a decoder's name
    return dataclasses.replace(
        description, parameters=count_parameters(model), decoder_parameters=count_parameters(model.decoder)
    )


def describe_paper(name: str) -> PaperDescription:
    """The description of a paper's network."""
    cls = PAPERS[name]
    with torch.device("meta"):
        model = create(name)
    in_channels = cls.default_in_channels
    return PaperDescription(
        about=_docstrings.module_paragraphs(cls),
        summary=_docstrings.class_summary(cls),
        paper=cls.paper,
        parameters=count_parameters(model),
        num_classes=cls.default_num_classes,
        in_channels=in_channels,
        channel_order=model.spec.channel_order if in_channels == 3 else "gray",
        mean=cls.pixel_mean[:in_channels],
        scale=cls.pixel_scale,
        options=options(cls),
    )


def is_encoder(name: str) -> bool:
    """Whether `describe_encoder` knows a name.

    Also true of tagged names and of timm models that `list_encoders` omits: building those explains why.
    """
    return name in ENCODERS or name in SHORT_NAMES or bool(timm.is_model(name.partition(".")[0]))


def describe_encoder(name: str, step: Callable[[str], None] = lambda text: None) -> EncoderDescription:
    """The description of an encoder, of segzoo, timm or a plugin.

    Args:
        step: is called with a text before each step, of which building a large network takes seconds.

    Raises:
        UnknownNameError, PairingError: as `create_encoder`.
    """
    with torch.device("meta"):
        step(f"building {name}")
        encoder = create_encoder(name)
        strides = [encoder.features.strides[-1]]
        for stride in (16, 8):
            step(f"trying output stride {stride}")
            try:
                strides.append(create_encoder(name, output_stride=stride).features.strides[-1])
            except PairingError:
                continue
    config = getattr(getattr(encoder, "net", None), "pretrained_cfg", {})
    has_weights = config.get("hf_hub_id") or config.get("url")
    return EncoderDescription(
        parameters=count_parameters(encoder),
        size_divisibility=encoder.size_divisibility,
        output_strides=tuple(dict.fromkeys(strides)),
        mean=encoder.mean,
        std=encoder.std,
        pretrained=".".join(filter(None, (config.get("architecture"), config.get("tag")))) if has_weights else None,
        levels=encoder.features.levels,
        channels=encoder.features.channels,
        strides=encoder.features.strides,
    )
