"""`segzoo push`: uploads a model to a repository on the Hugging Face Hub."""

from pathlib import Path
from typing import Annotated

import typer

from segzoo.cli import console, files
from segzoo.errors import UploadError
from segzoo.weights import hub


def push(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A .safetensors file, a folder of segzoo.save, or a catalog key."),
    ],
    repo: Annotated[str, typer.Argument(metavar="OWNER/REPO", help="The repository; created if it does not exist.")],
    private: Annotated[bool, typer.Option("--private", help="Create the repository as private.")] = False,
    onnx: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An .onnx file exported from these weights, to upload with them."),
    ] = None,
) -> None:
    """Upload a model to the Hugging Face Hub, with a model card.

    The weights, README.md, config.json and the .onnx file are uploaded in one commit. The command prints the hf://
    address of that commit, which segzoo.load accepts. Log in first with `hf auth login`.

    Examples:

      segzoo push street.safetensors jane/street
      segzoo push street.safetensors jane/street --private --onnx street.onnx
    """
    hub.check_repo(repo)
    files.find(model)
    if onnx is not None and not onnx.is_file():
        raise UploadError(f"There is no file {onnx}. `segzoo export {model}` writes one.")
    with console.Steps() as step:
        step("loading torch")
        from segzoo.models.push import push as push_model

        step(f"pushing {model} to {repo}")
        address = push_model(model, repo, private=private, onnx=onnx)
    console.line(address)
