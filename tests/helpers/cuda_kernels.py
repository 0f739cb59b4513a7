"""The table of operators and types that onnxruntime runs on CUDA, and the script that writes it.

`python tests/helpers/cuda_kernels.py` rewrites cuda_kernels.json from where onnxruntime's CUDA provider places the
nodes of exported graphs (see fake_cuda.py). An operator missing from the table may still have a kernel: run the script
again with a model that uses it.
"""

import json
from pathlib import Path

import onnx

TABLE = Path(__file__).with_suffix(".json")


def uses(proto: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """The operator and the type of the first input by node name, without arithmetic on sizes."""
    graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    types = {t.name: (t.data_type, len(t.dims)) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = (value.type.tensor_type.elem_type, len(value.type.tensor_type.shape.dim))
    operators = {}
    for node in graph.node:
        sizes = [types.get(name, (0, 9)) for name in node.output]
        # A size is an int64 vector, or a scalar that leads to one.
        on_sizes = all(rank == 0 or (dtype == onnx.TensorProto.INT64 and rank == 1) for dtype, rank in sizes)
        if on_sizes or node.op_type == "Shape":
            continue
        first = next((types[name][0] for name in node.input if name in types), 0)
        operators[node.name] = (node.op_type, onnx.TensorProto.DataType.Name(first).lower())
    return operators


def table() -> dict[str, list[str]]:
    """Types of the first input with a CUDA kernel at opset 18, by operator."""
    kernels: dict[str, list[str]] = json.loads(TABLE.read_text(encoding="utf-8"))["kernels"]
    return kernels


def main() -> None:
    import tempfile

    import fake_cuda
    import onnxruntime

    from segzoo import create, export
    from segzoo.models.decoders import DECODERS

    pairs = [(decoder, "test_resnet") for decoder in DECODERS]
    pairs += [("unet", name) for name in ("test_convnext", "test_efficientnet", "test_maxvit", "mobilenetv3_small_050")]
    kernels: dict[str, set[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fake_cuda.build(folder)
        files = []
        for decoder, encoder in pairs:
            for precision in ("fp32", "fp16"):
                files.append(folder / f"{len(files)}.onnx")
                print(decoder, encoder, precision, flush=True)
                model = create(decoder, encoder=encoder, num_classes=5)
                export(model, files[-1], precision=precision, confidence=True, logits=True)
        for path, placed in fake_cuda.placement(folder, files).items():
            operators = uses(onnx.load(path))
            for node in placed["cuda_nodes"]:
                if node in operators:
                    kernels.setdefault(operators[node][0], set()).add(operators[node][1])
    source = f"placement by the CUDA provider of onnxruntime-gpu {onnxruntime.__version__}, opset 18"
    content = {"source": source, "kernels": {op: sorted(types) for op, types in sorted(kernels.items())}}
    TABLE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
