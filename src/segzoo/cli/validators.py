"""What a command refuses before it loads torch, which takes seconds."""

from pathlib import Path

from segzoo._registry import DECODERS, PAPERS, UPSAMPLES, unknown_decoder, unknown_upsample
from segzoo.classes import label_set
from segzoo.cli import types
from segzoo.errors import CheckpointError, DataError, OptionError, unknown
from segzoo.weights.catalog import entries

_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".caffemodel")


def check_decoder(name: str) -> None:
    """Raises UnknownNameError for what is no decoder and no paper's network."""
    if name not in DECODERS and name not in PAPERS:
        raise unknown_decoder(name)


def check_model(
    decoder: str, labels: str | None, encoder_weights: str | None, output_stride: int | None, upsample: str | None
) -> None:
    """Arguments of `segzoo.create` that are wrong for every encoder.

    Raises:
        UnknownNameError, OptionError, CheckpointError
    """
    check_decoder(decoder)
    if labels is not None:
        label_set(labels)
    if encoder_weights is not None:
        _check_weights(encoder_weights)
    if output_stride not in (None, 8, 16, 32):
        raise OptionError(f"--output-stride is 8, 16 or 32, not {output_stride}.")
    if upsample is not None and upsample not in UPSAMPLES:
        raise unknown_upsample(upsample)


def _check_weights(weights: str) -> None:
    path = Path(weights)
    if path.exists() or weights in entries():
        return
    takes = "--encoder-weights takes imagenet, a timm tag, the path of a weights file, or a key of the catalog."
    if path.suffix in _WEIGHTS:
        raise CheckpointError(f"No file {weights}. {takes}")
    if len(path.parts) > 1:
        raise unknown("encoder weights", weights, entries(), takes)


def check_data(root: str | Path, name: str | None) -> None:
    """The folder of a data set, and its name unless the model is to say it.

    Raises:
        UnknownNameError: no such data set.
        DataError: no such folder.
    """
    known = types.DATA_SETS.split("|")
    if name is not None and name not in known:
        raise unknown("data set", name, known, f"Data sets are {', '.join(known)}.")
    if not Path(root).is_dir():
        raise DataError(f"There is no folder {root}. The page Data of the documentation says what belongs there.")


def check_folder(folder: Path) -> None:
    """Raises OptionError where a folder is to be written, and a file is."""
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"{folder} is a file. Name a folder with -o.")
