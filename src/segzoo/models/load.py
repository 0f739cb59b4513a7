"""`load`: a trained model from the catalog, a file, a URL or the hub."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from segzoo._arguments import explained
from segzoo._registry import required_plugins
from segzoo._version import __version__
from segzoo.class_files import ClassesLike
from segzoo.classes import class_set
from segzoo.errors import CheckpointError, DeviceError, OptionError, SegzooError, shown
from segzoo.inference.backends.base import EngineOptions
from segzoo.inference.backends.device_names import explain, parse
from segzoo.inference.backends.nvidia_driver import driver_issue
from segzoo.inference.backends.torch import TorchBackend
from segzoo.models.base import SegmentationModel
from segzoo.models.build import build, network_class
from segzoo.models.convert import convert
from segzoo.models.head import with_classes
from segzoo.models.state import differences, empty_model
from segzoo.schema import check_options
from segzoo.spec import ModelSpec
from segzoo.weights import checkpoint
from segzoo.weights.catalog import Entry
from segzoo.weights.resolve import Located, locate


@explained
def load(
    source: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    num_classes: int | None = None,
    classes: ClassesLike | None = None,
) -> SegmentationModel:
    """A trained model in eval mode, on the CPU, in float32 regardless of the file's dtypes.

    Downloads are cached (`SEGZOO_CACHE` sets the folder), and their sha256 is checked at every use. `SEGZOO_OFFLINE=1`
    forbids network access. No code from a file is run.

    Args:
        source: a catalog key (`list_weights`); the path of a file that `save` wrote, or of its folder; an https URL; or
            `hf://owner/repo[@revision][/file]`. A `Path` is always a file, a key always a string.
        sha256: the file's sha256, 64 hexadecimal digits. Required for a URL; any other file is checked if it is given.
        num_classes: a number other than the file's replaces the head by one with random weights, which needs training;
            all other weights are kept. `predict` and `segzoo.export` warn (UserWarning) while the head is untrained.
        classes: a `ClassSet`, the name of one or a file, as for `create`, for other class names, as many as there are
            classes. None keeps the file's, or names new classes "class 0" and so on.

    Raises:
        UnknownNameError: neither a file nor a key (similar keys are suggested), or an unknown class set.
        OptionError: a URL without sha256, an invalid source, or an invalid number of classes.
        DownloadError: the file cannot be downloaded.
        CheckpointError: the file is missing, truncated, foreign, has another sha256, or does not hold the model that
            it describes. Nothing is half-loaded.
    """
    model = load_located(locate(source, sha256))
    return model if num_classes is None and classes is None else with_classes(model, num_classes, classes)


def load_located(located: Located) -> SegmentationModel:
    """The model in a local file. Raises the errors of `load`."""
    if located.entry is None or located.format == "segzoo":
        return load_checkpoint(located.path)
    return _described(convert(located.path, source=located.format), located.entry)


def open_located(located: Located, device: str, options: EngineOptions) -> TorchBackend:
    """The backend of a file that `load` reads, on a device, for `Predictor`.

    Raises:
        DeviceError: the device is unavailable, or cannot run torch models.
        OptionError: an option that torch does not have.
        CheckpointError, DownloadError: as `load`.
    """
    options.refuse("torch")
    requested, index = parse(device)
    if requested not in ("auto", "cpu", "cuda"):
        raise DeviceError(
            f"device={device!r} runs .onnx files only. Write one with `segzoo export {located.name}`, or use "
            "device='cuda'."
        )
    issue = None if requested == "cpu" else _cuda_issue(index)
    if issue is not None and requested != "auto":
        raise DeviceError(f"device={device!r} is unavailable, because {issue}. Use device='cpu' or 'auto'.")
    chosen = "cpu" if requested == "cpu" or issue is not None else f"cuda:{index}"
    return TorchBackend(load_located(located).to(chosen), explain(chosen, device, issue))


def _cuda_issue(index: int) -> str | None:
    """Why torch cannot use GPU number `index`, as a clause after "because"; None if it can."""
    if torch.version.cuda is None:
        return "the installed torch is built without CUDA"
    if torch.cuda.is_available() and index < torch.cuda.device_count():
        return None
    issue = driver_issue(index, "torch", int(torch.version.cuda.partition(".")[0]))
    return "torch can use no GPU on this machine" if issue is None else issue.reason


def load_checkpoint(path: str | os.PathLike[str]) -> SegmentationModel:
    """The model that `save` wrote to a file, in eval mode, on the CPU, in float32.

    The model is built on the meta device and takes the file's tensors, so nothing is initialized just to be
    overwritten.

    Raises:
        CheckpointError: the file is missing, truncated, foreign, or does not hold the model that it describes. Nothing
            is half-loaded.
    """
    target = Path(path)
    spec, tensors = checkpoint.read(target)
    try:
        check_options(repr(spec.decoder), network_class(spec.decoder), spec.options)
        if not spec.mean:
            raise OptionError("mean and std are missing.")
        model = empty_model(spec)  # it was measured before it was saved
    except (KeyError, TypeError, ValueError, AttributeError, SegzooError) as error:
        raise CheckpointError(
            f"{target} describes a model that this segzoo cannot build: {_cause(spec, error)}"
        ) from error
    expected = model.state_dict()
    _check_tensors(target, expected, tensors)
    # float16 in a file is for storage only.
    model.load_state_dict({name: tensor.to(expected[name].dtype) for name, tensor in tensors.items()}, assign=True)
    not_stored = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    if not_stored:
        # Buffers that are computed and not stored (swin's window masks) have no values on the meta device.
        computed = dict(build(spec, measure=False).named_buffers())
        for name in not_stored:
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, computed[name])
    return model.eval()


def _cause(spec: ModelSpec, error: Exception) -> str:
    absent = [module for module in spec.requires if module not in required_plugins(spec.decoder, spec.encoder)]
    if absent:
        title = shown(spec.title)
        if "__main__" in absent:
            return (
                f"{title} was registered by the script that wrote the file. Move that code into a module, import "
                "it in both programs, and save the model again."
            )
        modules, options = " and ".join(map(repr, absent)), " ".join(f"--import {module}" for module in absent)
        noun, have, them = ("module", "has", "it") if len(absent) == 1 else ("modules", "have", "them")
        return (
            f"{title} comes from the {noun} {modules}, which {have} not been imported. Import {them} first, or pass "
            f"{options} to a command, if you trust {them}."
        )
    return f"{error} (written by segzoo {shown(spec.version)}, this is {__version__})."


def _described(model: SegmentationModel, entry: Entry) -> SegmentationModel:
    """Gives a converted model what its file does not hold: classes, normalization, origin."""
    model.spec = model.spec.replace(classes=class_set(entry.classes))
    model.set_normalization(entry.mean, entry.std)
    return model.with_info(**entry.info())


def _check_tensors(path: Path, expected: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    faults = differences(expected, stored)
    if faults:
        raise CheckpointError(f"{path} does not hold the model it describes: it {faults}.")
