"""Loading a model from a .safetensors file: `nox -s bench-loading`.

    segzoo.load              the file alone, which describes its own model
    smp.from_pretrained      segmentation-models-pytorch's Unet on ResNet-101, from a folder
    lower bound              safetensors' load_file and load_state_dict(assign=True) into the same network, built on
                             the meta device without any check

After each, every weight is read once, so that a file that is merely memory-mapped does not count as loaded. The three
alternate in one process, the files are in the page cache, and the medians and their ratios are printed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import nn

import segzoo
from compare import CLASSES, keep, machine
from segzoo.models.build import build
from segzoo.spec import ModelSpec

Load = Callable[[], nn.Module]


def touch(model: nn.Module) -> None:
    for tensor in model.state_dict().values():
        tensor.sum()


def load_unchecked(path: Path, spec: ModelSpec) -> nn.Module:
    with torch.device("meta"):
        model = build(spec, measure=False)
    model.load_state_dict(load_file(path), assign=True)
    return model.eval()


def contenders(name: str, folder: Path) -> dict[str, Load]:
    decoder, encoder = name.split("/")
    torch.manual_seed(0)
    model = segzoo.create(decoder, encoder, CLASSES)
    path = segzoo.save(model, folder / decoder)
    spec = model.spec
    loads: dict[str, Load] = {
        "segzoo.load": lambda: segzoo.load(path),
        "lower bound": lambda: load_unchecked(path, spec),
    }
    if decoder == "unet":
        smp.Unet(encoder, encoder_weights=None, classes=CLASSES).save_pretrained(folder / "smp")
        loads["smp.from_pretrained"] = lambda: smp.from_pretrained(folder / "smp").eval()
    return loads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output", type=Path, help="the JSON file (benchmarks/results/DATE-loading.json)")
    args = parser.parse_args()
    console = Console()
    results = []
    for name in ("unet/resnet101", "deconvnet/vgg16_bn"):
        with tempfile.TemporaryDirectory() as folder, console.status(name):
            loads = contenders(name, Path(folder))
            samples: dict[str, list[float]] = {method: [] for method in loads}
            for repeat in range(-1, args.repeats):
                for method in list(loads)[repeat % len(loads) :] + list(loads)[: repeat % len(loads)]:
                    start = time.perf_counter()
                    touch(loads[method]())
                    if repeat >= 0:
                        samples[method].append(time.perf_counter() - start)
        base = statistics.median(samples["lower bound"])
        table = Table("", "median", "of the lower bound", title=name)
        for method, seconds in samples.items():
            median = statistics.median(seconds)
            table.add_row(method, f"{1000 * median:.0f} ms", f"{median / base:.2f}")
            results.append({"model": name, "method": method, "seconds": seconds})
        console.print(table)
    console.print(f"All samples are in {keep({**machine(), 'results': results}, args.output, 'loading')}")


if __name__ == "__main__":
    main()
