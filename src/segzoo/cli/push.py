"""`segzoo push`: a model to a repository on the Hugging Face hub."""

from pathlib import Path
from typing import Annotated

import typer

from segzoo.cli import console, files
from segzoo.errors import UploadError
from segzoo.weights import hub


def push(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A .safetensors file, a folder of segzoo.save, or a key of the catalog."),
    ],
    repo: Annotated[str, typer.Argument(metavar="OWNER/REPO", help="The repository; it is made if need be.")],
    private: Annotated[bool, typer.Option("--private", help="Seen by its owner only.")] = False,
    onnx: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An .onnx file that segzoo exported from these weights, to go with them."),
    ] = None,
) -> None:
    """Puts a model into a repository on the Hugging Face hub, with a card that says how to use it.

    It is one commit: the weights, README.md, and the .onnx file. What is printed is what segzoo.load takes to load just
    this. `hf auth login` says who you are.

      segzoo push street.safetensors jane/street
      segzoo push street.safetensors jane/street --private --onnx street.onnx
    """
    hub.check_repo(repo)
    files.find(model)
    if onnx is not None and not onnx.is_file():
        raise UploadError(f"There is no file {onnx}. `segzoo export {model}` writes one.")
    with console.Steps() as step:
        step("loading torch")
        from segzoo.models.push import push as send

        step(f"pushing {model} to {repo}")
        place = send(model, repo, private=private, onnx=onnx)
    console.line(place)
