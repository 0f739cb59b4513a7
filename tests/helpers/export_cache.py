"""Models for tests of the export, and their exported files, made once for all tests and all workers of pytest-xdist.

Tracing takes most of the time of an export. A test that needs an exported file, or a graph to damage, gets it from
`ExportCache`; a test of the tracing itself exports `TinyModel`.
"""

import contextlib
import hashlib
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from filelock import FileLock

from segzoo import ClassSet, create
from segzoo.exporting.export import Export, export
from segzoo.exporting.onnx.graph import build_graph
from segzoo.exporting.onnx.verify import _images
from segzoo.models.base import SegmentationModel
from segzoo.models.parameters import weights_sha256
from segzoo.spec import ExportSpec, ModelSpec

FC6_FC7 = ("fcn32s", "fcn16s", "fcn8s", "deconvnet")
"""Decoders with VGG's classifier, which has over 120 million weights unless the option `fc_head` says otherwise."""


def small_model(decoder: str = "unet", encoder: str = "test_resnet", **options: Any) -> SegmentationModel:
    """A model of 5 classes with few weights, in training mode. The same arguments give the same weights."""
    torch.manual_seed(0)
    if decoder in FC6_FC7:
        options = {"fc_head": (3, 16)} | options
    model = create(decoder, encoder, **{"num_classes": None if "classes" in options else 5} | options)
    _balance(model)
    return model.train()


def small_paper(name: str) -> SegmentationModel:
    """A paper's network, with few layers if it has an option for that."""
    torch.manual_seed(0)
    options = {"architecture": "C5,8,2C5,8,1M2C5,8,2C5,8,1M2"} if name == "paper/conv_deconv" else {}
    return create(name, **options)


class TinyModel(SegmentationModel):
    """One convolution: tracing it takes about a second. It takes any size without padding."""

    def __init__(self, num_classes: int = 5) -> None:
        classes = ClassSet.generic(num_classes)
        super().__init__(ModelSpec("tiny", None, classes, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)))
        torch.manual_seed(0)
        self.head = torch.nn.Conv2d(3, num_classes, 3, padding=1)

    def forward_padded(self, image: torch.Tensor, auxiliary: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.head(image), None


def _balance(model: SegmentationModel) -> None:
    """Shifts the logits so that no class wins everywhere, as random weights often make it: masks have to vary."""
    heads = [
        module
        for module in model.decoder.modules()
        if isinstance(module, torch.nn.Conv2d) and module.out_channels == model.spec.num_classes
    ]
    with torch.no_grad():
        _, logits = model.eval().classify(_images((1, 100, 133), model.spec.in_channels, "scene", seed=0))
        heads[-1].bias -= logits.mean((0, 2, 3))


class ExportCache:
    """The exported files of one test run, in a folder that all workers share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def __call__(self, model: SegmentationModel, **options: Any) -> Export:
        """What `segzoo.export` returned for this model and these options. The file is shared: do not modify it."""
        images = [hashlib.sha256(image.tobytes()).hexdigest() for image in options.get("calibration", ())]
        key = _key(model.spec.to_dict(), weights_sha256(model), options | {"calibration": images})
        path, result = (self.folder / f"{key}{suffix}" for suffix in (".onnx", ".pickle"))
        with FileLock(self.folder / f"{key}.lock"):
            if not result.exists():
                with self.cached_tracing():
                    made = export(model, path, **options)
                _write(result, pickle.dumps(made))
        loaded: Export = pickle.loads(result.read_bytes())
        return loaded

    def build_graph(self, model: SegmentationModel, spec: ExportSpec) -> onnx.ModelProto:
        """As `segzoo.exporting.onnx.graph.build_graph`. The caller may modify the graph."""
        network = model.spec.to_dict() | {"classes": model.spec.num_classes, "info": {}}
        # The graph has every output, whatever the spec asks for, and int8 starts from the graph of fp32.
        key = _key(network, weights_sha256(model), [spec.input, spec.half, spec.static_shape, spec.opset])
        path = self.folder / f"{key}.graph"
        with FileLock(self.folder / f"{key}.lock"):
            if not path.exists():
                _write(path, build_graph(model, spec).SerializeToString())
        return onnx.load_from_string(path.read_bytes())

    @contextlib.contextmanager
    def cached_tracing(self, change: Callable[[onnx.ModelProto], None] | None = None) -> Iterator[None]:
        """Makes `segzoo.export` take the graph from the cache, after `change` has modified it, instead of tracing."""

        def cached(model: SegmentationModel, spec: ExportSpec) -> onnx.ModelProto:
            proto = self.build_graph(model, spec)
            if change:
                change(proto)
            return proto

        torch.manual_seed(0)  # models that are built meanwhile have the same weights in every worker
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("segzoo.exporting.export.build_graph", cached)
            yield


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]


def _write(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".part")
    draft.write_bytes(content)
    os.replace(draft, path)
