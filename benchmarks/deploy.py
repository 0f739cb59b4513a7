"""Latency from a uint8 image in host memory to a uint8 mask in host memory: `nox -s bench-deploy`.

    a file exported by segzoo.export, run by segzoo.inference
    the usual code with segmentation-models-pytorch: its Unet exported by torch.onnx, with numpy before and after it
    the same segzoo model in torch, eager and compiled

SegNet and DeconvNet have no peer and are compared with torch only. All runs take turns in one process. The tables show
the median and the 99th percentile of the samples, and the ratio of the medians to segzoo's. `--device cuda` does the
same on a GPU, with fp16 too, and compares the masks with the CPU's; that has not been run yet.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from rich.console import Console
from rich.table import Table

import segzoo
from compare import CLASSES, export_peer, keep, machine
from segzoo.inference import EngineOptions, OnnxBackend
from segzoo.inference.backends.onnxruntime import ort
from segzoo.models.base import SegmentationModel

MEAN, STD = np.float32((0.485, 0.456, 0.406)), np.float32((0.229, 0.224, 0.225))
PEERS = {
    "unet/resnet101": "resnet101",
    "unet/mobilenet": "mobilenet_v2",
    "segnet/vgg16_bn": None,
    "deconvnet/vgg16_bn": None,
}

Run = Callable[[np.ndarray], np.ndarray]


def peer(encoder: str, path: Path, size: int, providers: list[str], threads: int) -> Run:
    torch.manual_seed(0)
    export_peer(smp.Unet(encoder, encoder_weights=None, classes=CLASSES).eval(), path, size)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=providers)
    name = session.get_inputs()[0].name

    def run(images: np.ndarray) -> np.ndarray:
        batch = ((images.astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
        return session.run(None, {name: np.ascontiguousarray(batch)})[0].argmax(1).astype(np.uint8)

    return run


def eager(model: SegmentationModel, device: str, compiled: bool) -> Run:
    model = model.to(device)
    call = torch.compile(model) if compiled else model

    @torch.inference_mode()
    def run(images: np.ndarray) -> np.ndarray:
        logits = call(model.normalize(torch.from_numpy(images).to(device)))
        return model.to_mask(logits).cpu().numpy()

    return run


def masks_of(backend: OnnxBackend) -> Run:
    return lambda images: backend.run(images)["mask"]


def contenders(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Run]:
    decoder, encoder = name.split("/")
    torch.manual_seed(0)
    model = segzoo.create(decoder, encoder=encoder, num_classes=CLASSES).eval()
    segzoo.export(model, folder / "ours.onnx")
    device = "cuda" if args.device == "cuda" else "cpu"
    runs: dict[str, Run] = {
        "segzoo": masks_of(OnnxBackend(folder / "ours.onnx", args.device, EngineOptions(threads=args.threads)))
    }
    if device == "cuda":
        segzoo.export(model, folder / "half.onnx", precision="fp16")
        runs["segzoo fp16"] = masks_of(OnnxBackend(folder / "half.onnx", args.device))
        runs["segzoo on the CPU"] = masks_of(OnnxBackend(folder / "ours.onnx", "cpu"))
    if PEERS[name]:
        providers = ["CUDAExecutionProvider"] if device == "cuda" else []
        providers.append("CPUExecutionProvider")
        runs["smp"] = peer(PEERS[name], folder / "peer.onnx", args.size, providers, args.threads)
    runs["torch eager"] = eager(model, device, compiled=False)
    if args.compile:
        runs["torch.compile"] = eager(model, device, compiled=True)
    return runs


def measure(runs: dict[str, Run], images: np.ndarray, repeats: int) -> dict[str, list[float]]:
    """Seconds of each repeat. The order rotates by one from repeat to repeat."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for repeat in range(-1, repeats):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            start = time.perf_counter()
            runs[name](images)
            if repeat >= 0:
                samples[name].append(time.perf_counter() - start)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--compile", action="store_true", help="also measure torch.compile, which takes minutes to compile"
    )
    parser.add_argument(
        "--output", type=Path, help="the JSON file to write (default: benchmarks/results/DATE-deploy.json)"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console()
    random = np.random.default_rng(0)
    results: list[dict[str, Any]] = []
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder, console.status(f"{name}: exporting"):
            runs = contenders(name, Path(folder), args)
            for batch in args.batches:
                images = random.integers(0, 256, (batch, args.size, args.size, 3), np.uint8)
                samples = measure(runs, images, args.repeats)
                reference = runs["segzoo"](images)
                table = Table(title=f"{name}, {batch} x {args.size} x {args.size}, {args.device}")
                for title in ("", "median", "p99", "relative to segzoo", "same class as segzoo"):
                    table.add_column(title, justify="left" if not title else "right")
                ours = statistics.median(samples["segzoo"])
                for contender, seconds in samples.items():
                    # The peer has other random weights: its masks cannot be compared.
                    agreement = None if contender == "smp" else float((runs[contender](images) == reference).mean())
                    table.add_row(
                        contender,
                        f"{1000 * statistics.median(seconds):.0f} ms",
                        f"{1000 * float(np.quantile(seconds, 0.99)):.0f} ms",
                        f"{statistics.median(seconds) / ours:.2f}",
                        "" if agreement is None else f"{agreement:.4%}",
                    )
                    results.append(
                        {
                            "model": name,
                            "batch": batch,
                            "contender": contender,
                            "seconds": seconds,
                            "pixel_agreement": agreement,
                        }
                    )
                console.print(table)
    facts = {**machine(), "threads": args.threads, "size": args.size, "device": args.device}
    versions = {"torch": torch.__version__, "onnxruntime": ort.__version__, "smp": smp.__version__}
    record = {**facts, "versions": versions, "results": results}
    console.print(f"Every sample is in {keep(record, args.output, 'deploy')}")


if __name__ == "__main__":
    main()
