"""Reads .onnx files, without torch."""

from pathlib import Path
from typing import TYPE_CHECKING

from segzoo.errors import CheckpointError

if TYPE_CHECKING:
    import onnx


def read_graph(path: Path) -> "onnx.ModelProto":
    """Reads an .onnx file whole.

    Raises:
        CheckpointError: it is no .onnx file.
    """
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except OSError:
        raise
    except Exception as error:  # protobuf's own errors come without types
        raise CheckpointError(f"{path} is not a whole .onnx file ({error}). Copy or export it again.") from error
    if not model.graph.node:
        raise CheckpointError(f"{path} is not a whole .onnx file (it holds no graph). Copy or export it again.")
    return model
