"""Pretrained weights for timm encoders: from timm, a file with timm's or torchvision's names, or a segzoo model."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from timm.models import adapt_input_conv, get_pretrained_cfg
from torch import Tensor
from torch import hub as torch_hub

from segzoo.errors import CheckpointError, DownloadError, quoted, some
from segzoo.spec import ModelSpec
from segzoo.weights import checkpoint, hub
from segzoo.weights.cache import offline
from segzoo.weights.resolve import WEIGHTS_SUFFIXES
from segzoo.weights.state_dict import read, unwrapped

_IN_A_MODEL = "encoder.net."
"""Prefix of the names of an encoder's weights in a segzoo model."""


@contextlib.contextmanager
def timm_downloads(name: str) -> Iterator[None]:
    """Applies segzoo's settings to timm while it loads pretrained weights. Files in timm's caches still load.

    Args:
        name: timm's name of the network, with or without the tag of the weights.

    Raises:
        OSError: the network is forbidden, and the weights are at a URL. For the hub, huggingface_hub raises an error.
    """
    config = get_pretrained_cfg(name)
    if offline() and config is not None and isinstance(config.url, str) and not config.hf_hub_id:
        cached = Path(torch_hub.get_dir(), "checkpoints", urlsplit(config.url).path.rpartition("/")[2])
        if not cached.is_file():
            raise OSError(f"{config.url} is not in torch's cache.")
    with hub.settings():
        yield


def cannot_fetch(name: str, error: Exception) -> DownloadError:
    """The error for weights that timm could not download. It says how to work without a network."""
    setting = offline()
    reason = f"{setting} forbids the network." if setting else str(error).strip().rpartition("\n")[2]
    return DownloadError(
        f"Could not download timm's weights for {name!r}: {reason} "
        f"Without a network, pass a file: encoder_weights='path/to/{name}.safetensors' (or .pth). "
        "encoder_weights=None starts from random weights."
    )


def is_path(weights: str) -> bool:
    """Whether this is a path, even of a missing file: timm's tags have no separators and none of these suffixes."""
    path = Path(weights)
    return path.exists() or len(path.parts) > 1 or path.suffix in WEIGHTS_SUFFIXES


def load_weights(net: Any, path: str | os.PathLike[str]) -> ModelSpec | None:
    """Loads the weights of a full network into a timm feature network, without the classifier.

    From a segzoo model it takes the encoder, so that a new decoder can start from an encoder trained with another.

    If the image has other than three channels, the first convolution's weights are summed (one channel) or repeated and
    scaled.

    Args:
        path: a .safetensors file, or a .pth, .pt or .bin file that torch.load(weights_only=True) reads: no pickled code
            is run.

    Returns:
        the spec in the file of a segzoo model; None for any other file.

    Raises:
        CheckpointError: the file is missing or unreadable, or lacks weights of this network, which are named.
    """
    if not Path(path).is_file():
        raise CheckpointError(
            f"No file {path}. encoder_weights takes None, 'imagenet', a timm tag, the path of a weights file, or a key "
            "from `segzoo list --weights`."
        )
    source = read(Path(path))
    spec: ModelSpec | None = None
    if any(name.startswith(_IN_A_MODEL) for name in source):
        spec = checkpoint.read_spec(Path(path))
    own_names = {spelling for name in net.state_dict() for spelling in _spellings(name)}
    found = unwrapped(source, lambda bare: len(own_names & bare.keys()))
    source = found[0] if found else source
    state: dict[str, Tensor] = {}
    missing, mismatched = [], []
    first = net.pretrained_cfg["first_conv"]
    for name, own in net.state_dict().items():
        key = next((spelling for spelling in _spellings(name) if spelling in source), None)
        if key is None:
            if not name.endswith("num_batches_tracked"):  # a counter that files from before torch 0.4.1 lack
                missing.append(name)
            continue
        value = source[key]
        if key == f"{first}.weight" and value.ndim == 4 and value.shape[1] == 3 != own.shape[1]:
            value = adapt_input_conv(own.shape[1], value)
        if value.shape != own.shape:
            mismatched.append(f"{key} {tuple(value.shape)}, not {tuple(own.shape)}")
        state[name] = value
    if missing or mismatched:
        raise CheckpointError(
            f"{path} does not hold the weights of this encoder. "
            + (f"It holds a model with encoder {quoted(spec.encoder)}. " if spec else "")
            + (f"Missing: {some(missing)}. " if missing else "")
            + (f"Other shapes: {some(mismatched)}. " if mismatched else "")
            + "Pass a file of the same timm or torchvision network, or of a segzoo model with this encoder. "
            "Nothing was loaded."
        )
    net.load_state_dict(state, strict=False)
    return spec


def _spellings(name: str) -> tuple[str, str]:
    """A name in timm's feature wrapper, and in the network: it joins the first two parts, as in features_0.weight."""
    return name, re.sub(r"^(\w+?)_(\d+)\.", r"\1.\2.", name)
