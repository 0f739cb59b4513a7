"""Decoders by name. Each architecture has a file; `segzoo._registry` lists them."""

from collections.abc import Mapping

from segzoo import _registry
from segzoo.models.decoders.base import Decoder

DECODERS: Mapping[str, type[Decoder]] = _registry.DECODERS.objects

__all__ = ["DECODERS", "Decoder"]
