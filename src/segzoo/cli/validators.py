"""Checks that a command makes before it imports torch, which takes seconds."""

from pathlib import Path

from segzoo._registry import DATASETS, DECODERS, PAPERS, UPSAMPLE_MODES, unknown_decoder, unknown_upsample_mode
from segzoo.class_files import resolve_classes
from segzoo.errors import CheckpointError, DataError, OptionError, unknown
from segzoo.weights.catalog import entries
from segzoo.weights.resolve import WEIGHTS_SUFFIXES


def check_decoder(name: str) -> None:
    """Raises UnknownNameError if `name` is neither a decoder nor a paper's network."""
    if name not in DECODERS and name not in PAPERS:
        raise unknown_decoder(name)


def check_model(
    decoder: str,
    classes: str | None,
    num_classes: int | None,
    encoder_weights: str | None,
    output_stride: int | None,
    upsample: str | None,
) -> None:
    """Checks the arguments of `segzoo.create` that do not depend on the encoder.

    Raises:
        UnknownNameError, OptionError, CheckpointError
    """
    check_decoder(decoder)
    check_classes(classes, num_classes)
    if encoder_weights is not None:
        _check_weights(encoder_weights)
    if output_stride not in (None, 8, 16, 32):
        raise OptionError(f"--output-stride must be 8, 16 or 32, not {output_stride}.")
    if upsample is not None and upsample not in UPSAMPLE_MODES:
        raise unknown_upsample_mode(upsample)


def check_classes(classes: str | None, num_classes: int | None) -> None:
    """Checks --classes, and that --num-classes does not contradict it.

    Raises:
        UnknownNameError: there is no such class set.
        OptionError: the file is missing or holds no class set, or the numbers differ.
    """
    class_set = resolve_classes(classes)
    if class_set is not None and num_classes not in (None, len(class_set)):
        raise OptionError(
            f"--num-classes is {num_classes}, but {classes} names {len(class_set)} classes. Omit --num-classes."
        )


def _check_weights(weights: str) -> None:
    path = Path(weights)
    if path.exists() or weights in entries():
        return
    usage = "--encoder-weights takes imagenet, a timm tag, the path of a weights file, or a catalog key."
    if path.suffix in WEIGHTS_SUFFIXES:
        raise CheckpointError(f"There is no file {weights}. {usage}")
    if len(path.parts) > 1:
        raise unknown("encoder weights", weights, entries(), usage)


def check_data(root: str | Path, name: str | None) -> None:
    """Checks the folder of a data set, and its name unless that comes from the model.

    Raises:
        UnknownNameError: there is no such data set.
        DataError: there is no such folder.
    """
    if name is not None:
        DATASETS.find(name)
    if not Path(root).is_dir():
        raise DataError(
            f"There is no folder {root}. The documentation's page Data describes the layout of each data set."
        )


def check_folder(folder: Path) -> None:
    """Raises OptionError if the output folder is an existing file."""
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"{folder} is a file. Name a folder with -o.")
