"""push: a model to a repository on the Hugging Face hub, with a card that says how to use it."""

import os
import tempfile
from pathlib import Path
from typing import Any

from segzoo import spec
from segzoo._version import __version__
from segzoo.errors import UploadError
from segzoo.models.base import SegmentationModel
from segzoo.models.create import count, record, save, weights_sha256
from segzoo.models.load import load
from segzoo.weights import cache, hub
from segzoo.weights.card import model_card

ONNX = "model.onnx"
"""What an exported graph is called in a repository."""


def push(
    model: SegmentationModel | str | os.PathLike[str],
    repo: str,
    *,
    private: bool = False,
    onnx: str | os.PathLike[str] | None = None,
) -> str:
    """Puts a model into a repository on the hub, in one commit: the weights, a model card, and an .onnx file.

    The repository is made if need be. `hf auth login` says who you are.

    Args:
        model: a model, or whatever `load` takes. A folder that `save` wrote brings its own README.md as the card.
        repo: owner/name.
        private: whether a new repository is seen by its owner only; one that is there and public is refused.
        onnx: a file that `export` wrote from these weights; it is put beside them as model.onnx.

    Returns:
        "hf://owner/name@commit": what `load` takes to load just this.

    Raises:
        OptionError: no name of a repository.
        UploadError: no access, no network, a public repository that was to be private, or an .onnx file of another
            model. The commit is there whole or not at all.
        CheckpointError, DownloadError: the model cannot be loaded.
    """
    hub.check_repo(repo)
    setting = cache.offline()
    if setting is not None:
        raise UploadError(f"{setting} forbids the network: nothing was pushed.")
    readme = None
    if isinstance(model, SegmentationModel):
        ours = model
    else:
        ours = load(model)
        readme = Path(model) / "README.md"
    exported = None if onnx is None else _exported(Path(onnx), ours)
    if readme is not None and readme.is_file():
        card = readme.read_text(encoding="utf-8")
    else:
        card = model_card(record(ours), count(ours), f"hf://{repo}", exported)
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, Any] = {
            hub.FILE: save(ours, Path(folder) / hub.FILE),
            "README.md": card.encode(),
        }
        if onnx is not None:
            files[ONNX] = Path(onnx)
        return f"hf://{repo}@{_commit(repo, private, files)}"


def _exported(path: Path, model: SegmentationModel) -> dict[str, Any]:
    """The record of an .onnx file, which has to be of these weights."""
    import onnx

    try:
        graph = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own errors come without types
        raise UploadError(f"{path} is not a whole .onnx file ({error}). segzoo.export writes one.") from error
    found = spec.decode({pair.key: pair.value for pair in graph.metadata_props})
    if not found:
        raise UploadError(f"{path} was not written by segzoo.export. Export the model and push that.")
    if found.get("weights_sha256") != weights_sha256(model):
        raise UploadError(f"{path} was exported from other weights than these. Export this model and push that.")
    return found


def _commit(repo: str, private: bool, files: dict[str, Any]) -> str:
    """Makes the repository if need be and commits the files; the commit's name."""
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(library_name="segzoo", library_version=__version__)
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        if private and not api.repo_info(repo).private:
            raise UploadError(f"{repo} is public already. Make it private on the hub, or push to another repository.")
        done = api.create_commit(
            repo,
            [CommitOperationAdd(name, content) for name, content in files.items()],
            commit_message=f"Upload with segzoo {__version__}",
        )
    except UploadError:
        raise
    except Exception as error:  # huggingface_hub hands on those of whatever HTTP library it uses in this version
        raise UploadError(_why(repo, error)) from error
    return str(done.oid)


def _why(repo: str, error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"The hub does not let you write to {repo}. `hf auth login` with a token that may write there."
    return f"Could not push to {repo}: {hub.reason(error)}"
