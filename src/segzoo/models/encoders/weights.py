"""Pretrained weights for timm encoders: timm's own, a file in timm's or torchvision's naming, or a segzoo model's."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from timm.models import adapt_input_conv
from torch import Tensor

from segzoo.errors import CheckpointError, DownloadError
from segzoo.weights import checkpoint
from segzoo.weights.cache import offline
from segzoo.weights.state_dict import read, some

_IN_A_MODEL = "encoder.net."
"""What a segzoo model puts before the names of its encoder's weights."""


@contextlib.contextmanager
def no_network_if_offline() -> Iterator[None]:
    """SEGZOO_OFFLINE=1 holds for what timm fetches from the hub too; what is in its cache still loads."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or offline() is not None
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def cannot_fetch(name: str, error: Exception) -> DownloadError:
    """The error for weights that timm could not get, with the way that needs no network."""
    setting = offline()
    reason = f"{setting} forbids the network." if setting else str(error).strip().rpartition("\n")[2]
    return DownloadError(
        f"Could not fetch timm's weights for {name!r}: {reason} "
        f"Without a network, pass the file: encoder_weights='path/to/{name}.safetensors' (or .pth); "
        "encoder_weights=None starts from random weights."
    )


def is_path(weights: str) -> bool:
    """Whether a file is meant, even where there is none: timm's tags have no separators and no such endings."""
    path = Path(weights)
    return path.exists() or len(path.parts) > 1 or path.suffix in (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


def load_weights(net: Any, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Fills a timm feature network from a file of the full classifier's weights; its classifier is left out.

    Of a whole segzoo model it takes the encoder, so that one decoder can go on from what another has learned.

    A first convolution for another number of image channels is summed (one channel) or repeated and scaled.

    Args:
        path: .safetensors, or a .pth/.pt/.bin that torch.load(weights_only=True) reads: no pickled code is run.

    Returns:
        what a segzoo model's file says of itself, its "mean" and "std" among that; nothing of any other file.

    Raises:
        CheckpointError: no such file, not readable, or it lacks weights of this network (named).
    """
    if not Path(path).is_file():
        raise CheckpointError(
            f"No file {path}. encoder_weights takes None, 'imagenet', a timm tag, the path of a weights file, or a key "
            "of `segzoo list --weights`."
        )
    source = read(Path(path))
    record: dict[str, Any] = {}
    if any(name.startswith(_IN_A_MODEL) for name in source):
        source = {name.removeprefix(_IN_A_MODEL): value for name, value in source.items()}
        record = checkpoint.read_record(Path(path))
    state: dict[str, Tensor] = {}
    missing, misfits = [], []
    first = net.pretrained_cfg["first_conv"]
    for name, own in net.state_dict().items():
        # timm's feature wrapper joins the first two parts of a name: features.0.weight becomes features_0.weight.
        found = next((n for n in (name, re.sub(r"^(\w+?)_(\d+)\.", r"\1.\2.", name)) if n in source), None)
        if found is None:
            if not name.endswith("num_batches_tracked"):  # a counter, absent from files made before torch 0.4.1
                missing.append(name)
            continue
        value = source[found]
        if found == f"{first}.weight" and value.ndim == 4 and value.shape[1] == 3 != own.shape[1]:
            value = adapt_input_conv(own.shape[1], value)
        if value.shape != own.shape:
            misfits.append(f"{found} {tuple(value.shape)}, not {tuple(own.shape)}")
        state[name] = value
    if missing or misfits:
        raise CheckpointError(
            f"{path} does not hold the weights of this encoder. "
            + (f"It is a model on {record['encoder']!r}. " if record else "")
            + (f"Missing: {some(missing)}. " if missing else "")
            + (f"Other shapes: {some(misfits)}. " if misfits else "")
            + "It must be the file of the same timm or torchvision network, or of a segzoo model with this encoder; "
            "nothing was loaded."
        )
    net.load_state_dict(state, strict=False)
    return record
