"""Checks exported models on this machine's GPU: placement of operators, equality with the CPU, latency.

    python tools/check_gpu.py
    python tools/check_gpu.py --models unet/resnet50 paper/segnet --device tensorrt --output report.json

Each model is exported (random weights unless it is a catalog key), which verifies the file on the CPU. Then the same
images run on the CPU and on the GPU. The exit code is 1 if the share of pixels with the same class is below what export
demands of a file, or if an operator other than arithmetic on shapes runs on the CPU.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import segzoo
from segzoo.inference import OnnxBackend
from segzoo.inference.backends.onnxruntime import ort
from segzoo.models.base import SegmentationModel

MODELS = (
    *("unet/mobilenetv4_conv_small/camvid", "fcn32s/resnet50", "fcn16s/resnet50", "fcn8s/vgg16", "fcn/resnet50"),
    *("unet/resnet50", "unet/convnext_tiny", "segnet/vgg16_bn", "deconvnet/resnet50", "deeplab_largefov/xception"),
    *("paper/fcn8s_atonce", "paper/segnet", "paper/unet", "paper/conv_deconv"),
)
SIZES = ((1, 360, 480), (1, 333, 250), (4, 512, 512))
RUNS = 20

SHAPE_OPERATORS = {
    *("Shape", "Gather", "Unsqueeze", "Squeeze", "Concat", "Cast", "Slice", "Range", "Reshape", "Identity"),
    *("Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "Equal", "Where", "ConstantOfShape", "Constant", "Floor"),
}
"""What onnxruntime keeps on the CPU on purpose, for a graph of any size: arithmetic on sizes."""


def model_of(name: str) -> SegmentationModel:
    """A catalog key's model, or one by name with weights of seed 0."""
    if name in segzoo.list_weights():
        return segzoo.load(name)
    torch.manual_seed(0)
    decoder, encoder = (name, None) if name in segzoo.list_models() else name.split("/", 1)
    return segzoo.create(decoder, encoder or None).eval()


def milliseconds(run: Any) -> float:
    """The median of `RUNS` runs after three that are not counted."""
    times = []
    for _ in range(RUNS + 3):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[3:])


def check(name: str, device: str, folder: Path, precision: str) -> dict[str, Any]:
    """Exports one model and compares the GPU with the CPU."""
    model = model_of(name)
    start = time.perf_counter()
    done = segzoo.export(
        model, folder / f"{name.replace('/', '-')}-{precision}.onnx", logits=True, confidence=True, precision=precision
    )
    exported = time.perf_counter() - start
    cpu, gpu = OnnxBackend(done.path, "cpu"), OnnxBackend(done.path, device)
    on_cpu = set(gpu.placement.get("CPUExecutionProvider", [])) - SHAPE_OPERATORS
    row: dict[str, Any] = {
        "model": name,
        "precision": precision,
        "export_seconds": round(exported, 1),
        "provider": gpu.provider,
        "on_cpu": sorted(on_cpu),
        "min_agreement": done.verification.min_agreement,
        "sizes": [],
    }
    random = np.random.default_rng(0)
    for size in SIZES:
        images = random.integers(0, 256, (*size, cpu.spec.in_channels), np.uint8)
        ours, theirs = (backend.run(images, sorted(backend.outputs)) for backend in (gpu, cpu))
        largest = max(float(np.abs(theirs["logits"]).max()), 1e-12)
        row["sizes"].append(
            {
                "size": size,
                "pixel_agreement": float((ours["mask"] == theirs["mask"]).mean()),
                "logits_difference": float(np.abs(ours["logits"] - theirs["logits"]).max()) / largest,
                "gpu_ms": round(milliseconds(lambda images=images: gpu.run(images)), 3),
            }
        )
    if torch.cuda.is_available():
        model = model.cuda()
        images = torch.randint(0, 256, (*SIZES[-1], cpu.spec.in_channels), dtype=torch.uint8)

        def eager() -> None:
            with torch.inference_mode():
                model.classify(images.cuda())[0].cpu()

        row["torch_eager_ms"] = round(milliseconds(eager), 3)
    return row


def main() -> int:
    """Runs all checks, prints a line for each, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", default=MODELS, metavar="NAME", help="decoder/encoder, paper/NAME or a key"
    )
    parser.add_argument("--precisions", nargs="+", default=["fp32"], choices=["fp32", "fp16"])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or tensorrt (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="also write everything there, as JSON")
    arguments = parser.parse_args()
    facts = {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "machine": platform.platform(),
        "versions": {"segzoo": segzoo.__version__, "onnxruntime": ort.__version__, "torch": torch.__version__},
    }
    print(json.dumps(facts), flush=True)
    rows: list[dict[str, Any]] = []
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for precision in arguments.precisions:
            for name in arguments.models:
                try:
                    row = check(name, arguments.device, Path(folder), precision)
                    bad = row["on_cpu"] or any(one["pixel_agreement"] < row["min_agreement"] for one in row["sizes"])
                except (
                    segzoo.errors.SegzooError,
                    RuntimeError,
                ) as error:  # RuntimeError: torch's, such as out of memory
                    row, bad = {"model": name, "precision": precision, "error": str(error)}, True
                failed += bool(bad)
                rows.append(row)
                print("FAILED" if bad else "ok", json.dumps(row), flush=True)
                if arguments.output:
                    arguments.output.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(f"{len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
