"""The table of operators and types that onnxruntime runs on CUDA, and how it was made.

`python tests/helpers/cuda_kernels.py` writes cuda_kernels.json anew from where onnxruntime's own CUDA provider places
the nodes of exported graphs (see fake_cuda.py). An operator that is not in the table is not known to be without a
kernel: run this again with a model that has it.
"""

import json
from pathlib import Path

import onnx

TABLE = Path(__file__).with_suffix(".json")


def uses(proto: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """Name of each node -> its operator, and the type of its first input; arithmetic on sizes is left out."""
    graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    types = {t.name: (t.data_type, len(t.dims)) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = (value.type.tensor_type.elem_type, len(value.type.tensor_type.shape.dim))
    found = {}
    for node in graph.node:
        sizes = [types.get(name, (0, 9)) for name in node.output]
        # A size is an int64, or a lone number on the way to one.
        on_sizes = all(rank == 0 or (kind == onnx.TensorProto.INT64 and rank == 1) for kind, rank in sizes)
        if on_sizes or node.op_type == "Shape":
            continue
        first = next((types[name][0] for name in node.input if name in types), 0)
        found[node.name] = (node.op_type, onnx.TensorProto.DataType.Name(first).lower())
    return found


def table() -> dict[str, list[str]]:
    """Operator -> types of its first input that have a CUDA kernel at opset 18."""
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
                export(model, files[-1], precision=precision, scores=True, logits=True)
        for path, placed in fake_cuda.placement(folder, files).items():
            found = uses(onnx.load(path))
            for node in placed["cuda_nodes"]:
                if node in found:
                    kernels.setdefault(found[node][0], set()).add(found[node][1])
    source = f"placement by the CUDA provider of onnxruntime-gpu {onnxruntime.__version__}, opset 18"
    content = {"source": source, "kernels": {op: sorted(kinds) for op, kinds in sorted(kernels.items())}}
    TABLE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
