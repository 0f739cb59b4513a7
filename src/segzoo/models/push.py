"""`push`: a model to a repository on the Hugging Face hub, with a model card that shows how to use it."""

import copy
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from segzoo._arguments import explained
from segzoo._version import __version__
from segzoo.errors import CheckpointError, OptionError, UploadError
from segzoo.models.base import SegmentationModel
from segzoo.models.load import load
from segzoo.models.parameters import count_parameters, weights_sha256
from segzoo.models.save import save
from segzoo.spec import ExportSpec, ModelSpec
from segzoo.weights import cache, hub
from segzoo.weights.card import model_card
from segzoo.weights.onnx_file import read_graph

ONNX = "model.onnx"
"""Name of an exported graph in a repository."""


@explained
def push(
    model: SegmentationModel | str | os.PathLike[str],
    repo: str,
    *,
    private: bool = False,
    onnx: str | os.PathLike[str] | None = None,
) -> str:
    """Uploads a model to a repository on the hub, in one commit: the weights, a model card, optionally an .onnx file.

    The repository is created if necessary. Log in with `hf auth login` first. The commit also has a config.json, the
    model's spec for other programs to read; by that file the hub counts downloads.

    Args:
        model: a model, or anything that `load` takes. For a folder that `save` wrote, its README.md is the card.
        repo: owner/name.
        private: whether a new repository is private. An existing public repository is rejected.
        onnx: a file that `export` wrote from these weights; it is uploaded as model.onnx.

    Returns:
        "hf://owner/name@commit", with which `load` loads exactly this commit.

    Raises:
        OptionError: `repo` is not the name of a repository.
        UploadError: no access, no network, a public repository although `private`, or an .onnx file of another model.
            The commit is complete or does not exist.
        CheckpointError, DownloadError: the model cannot be loaded.
    """
    hub.check_repo(repo)
    setting = cache.offline()
    if setting is not None:
        raise UploadError(f"{setting} forbids network access: nothing was pushed.")
    readme = None
    if isinstance(model, SegmentationModel):
        loaded = model
    else:
        loaded = load(model)
        readme = Path(model) / "README.md"
    exported = None if onnx is None else _exported(Path(onnx), loaded)
    loaded = copy.copy(loaded)  # shares the weights
    loaded.spec = loaded.spec.portable()
    if readme is not None and readme.is_file():
        card = readme.read_text(encoding="utf-8")
    else:
        card = model_card(loaded.spec, count_parameters(loaded), f"hf://{repo}", exported)
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, Any] = {
            hub.FILE: save(loaded, Path(folder) / hub.FILE),
            "README.md": card.encode(),
            hub.CONFIG: json.dumps(_config(loaded.spec), indent=2, allow_nan=False).encode(),
        }
        if onnx is not None:
            files[ONNX] = Path(onnx)
        return f"hf://{repo}@{_commit(repo, private, files)}"


def _config(spec: ModelSpec) -> dict[str, Any]:
    """The content of config.json: what the weights file says of the model, without `info`, which the card shows."""
    record = spec.to_dict()
    del record["info"]
    classes = record.pop("classes")
    return {
        "library_name": "segzoo",
        **record,
        "num_classes": spec.num_classes,
        "id2label": dict(enumerate(classes["names"])),
        "ignore_index": classes["ignore_index"],
    }


def _exported(path: Path, model: SegmentationModel) -> ExportSpec:
    """The spec in an .onnx file, which must have been exported from these weights."""
    try:
        graph = read_graph(path)
    except CheckpointError as error:
        raise UploadError(str(error)) from error
    except OSError as error:
        raise UploadError(f"Cannot read {path}: {error}. segzoo.export writes .onnx files.") from error
    try:
        if ModelSpec.from_metadata(graph.metadata) is None:
            raise UploadError(f"{path} was not written by segzoo.export. Export the model and push that file.")
        exported = ExportSpec.from_metadata(graph.metadata)
    except OptionError as error:
        raise UploadError(f"The metadata of {path} is invalid: {error} Export the model again.") from error
    if exported.weights_sha256 != weights_sha256(model):
        raise UploadError(f"{path} was exported from other weights. Export this model and push that file.")
    return exported


def _commit(repo: str, private: bool, files: dict[str, Any]) -> str:
    """Creates the repository if necessary and commits the files; the commit's id."""
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(library_name="segzoo", library_version=__version__)
    try:
        with hub.settings():
            api.create_repo(repo, private=private, exist_ok=True)
            if private and not api.repo_info(repo).private:
                raise UploadError(
                    f"{repo} is public already. Make it private on the hub, or push to another repository."
                )
            commit = api.create_commit(
                repo,
                [CommitOperationAdd(name, content) for name, content in files.items()],
                commit_message=f"Upload with segzoo {__version__}",
            )
    except UploadError:
        raise
    except Exception as error:  # huggingface_hub passes on errors of its HTTP library, which depends on its version
        raise UploadError(_reason(repo, error)) from error
    return str(commit.oid)


def _reason(repo: str, error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"You have no write access to {repo} on the hub. Use `hf auth login` with a token that has."
    return f"Could not push to {repo}: {hub.reason(error)}"
