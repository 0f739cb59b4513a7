"""Reading .onnx files."""

from pathlib import Path
from typing import TYPE_CHECKING

from segzoo.errors import CheckpointError

if TYPE_CHECKING:
    import onnx


def read_graph(path: Path) -> "onnx.ModelProto":
    """Reads an .onnx file with its weights.

    Raises:
        CheckpointError: the file is not an .onnx file, or incomplete.
        OSError: the file cannot be opened.
    """
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except OSError:
        raise
    except Exception as error:  # protobuf's errors have no common base class
        raise CheckpointError(f"{path} is not a complete .onnx file ({error}). Copy or export it again.") from error
    values = [*model.graph.input, *model.graph.output]
    axes = [axis for value in values for axis in value.type.tensor_type.shape.dim]
    texts = [text for pair in model.metadata_props for text in (pair.key, pair.value)]
    texts += [value.name for value in values] + [axis.dim_param for axis in axes]
    if any(isinstance(text, bytes) for text in texts):  # what protobuf returns instead
        raise CheckpointError(f"{path} is damaged: its names are not UTF-8. Copy or export it again.")
    if not model.graph.node:
        raise CheckpointError(f"{path} is not a complete .onnx file (it contains no graph). Copy or export it again.")
    return model
