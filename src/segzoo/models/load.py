"""load: a trained model from wherever it is."""

import os
from dataclasses import replace

from segzoo.classes import LabelSet, label_set
from segzoo.models.base import SegmentationModel
from segzoo.models.convert import convert
from segzoo.models.create import rebuild, with_classes
from segzoo.weights.catalog import Entry
from segzoo.weights.resolve import Located, locate


def load(
    source: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    num_classes: int | None = None,
    labels: str | LabelSet | None = None,
) -> SegmentationModel:
    """A trained model, in eval mode, on the CPU, in float32 whatever the file stores.

    What is fetched is kept in a cache (`SEGZOO_CACHE` names its folder) and compared with its sha256 each time;
    `SEGZOO_OFFLINE=1` forbids the network. No code in a file is run.

    Args:
        source: a key of the catalog (`list_weights`); the path of a file that `save` wrote, or of its folder; an https
            URL; or `hf://owner/repo[@revision][/file]`. A `Path` is always a file, a key always a string.
        sha256: of the whole file, 64 hexadecimal digits; a URL needs it, and anything else is compared with it.
        num_classes: another number than the file has drops its head for one with random weights, to be trained;
            everything else is kept. `predict` and `segzoo.export` warn (UserWarning) where they get it untrained.
        labels: other labels, as many as there are classes; None keeps the file's, or names new classes "class 0" and
            so on.

    Raises:
        UnknownNameError: neither a file nor a key; near keys are suggested.
        OptionError: no sha256 for a URL, or a place that cannot be.
        DownloadError: the file cannot be fetched.
        CheckpointError: no such file, truncated, foreign, another than `sha256` says, or of another shape than it says
            itself; nothing is half-loaded.
    """
    return with_classes(load_located(locate(source, sha256)), num_classes, labels)


def load_located(located: Located) -> SegmentationModel:
    """The model in a file that is here; errors are those of `load`."""
    if located.entry is None or located.format == "segzoo":
        return rebuild(located.path)
    return _described(convert(located.path, source=located.format), located.entry)


def _described(model: SegmentationModel, entry: Entry) -> SegmentationModel:
    """Gives a converted model what its own file does not say: classes, normalisation, where it comes from."""
    model.config = replace(model.config, labels=label_set(entry.labels))
    model.mean, model.std = entry.mean, entry.std
    return model.with_info(**entry.info())
