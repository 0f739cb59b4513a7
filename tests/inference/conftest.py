"""Small .onnx files like those of segzoo.export, built by hand so that inference is tested without torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from segzoo import spec
from segzoo.classes import ClassSet
from segzoo.inference.backends import nvidia_driver
from segzoo.inference.backends.onnxruntime import device
from segzoo.spec import ExportSpec, ModelSpec

MakeFile = Callable[..., Path]
CpuSession = onnxruntime.InferenceSession


def metadata(input: str, classes: int, change: dict[str, Any] | None = None) -> dict[str, str]:
    """A file's metadata. `change` replaces fields of the model's or the export's spec; None removes one."""
    model = ModelSpec(
        decoder="unet",
        encoder="vgg16",
        classes=ClassSet.generic(classes),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ).to_dict()
    export = ExportSpec(input=input).to_dict()
    for key, value in (change or {}).items():
        fields = export if key in export else model
        if value is None:
            del fields[key]
        else:
            fields[key] = value
    return spec.encode(model | {"export": export})


def graph(input: str, classes: int, size: tuple[int | str, int | str], batch: int | str) -> onnx.GraphProto:
    """input="image": a pixel's class is its largest channel: red 0, green 1, blue 2. input="tensor": doubles."""
    height, width = size
    if input == "tensor":
        shape = [batch, 3, height, width]
        return helper.make_graph(
            [helper.make_node("Add", ["image", "image"], ["logits"])],
            "double",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        )
    dtype = TensorProto.UINT8 if classes <= 256 else TensorProto.INT32
    return helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("ArgMax", ["real"], ["index"], axis=3, keepdims=0),
            helper.make_node("Cast", ["index"], ["mask"], to=dtype),
        ],
        "largest_channel",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, height, width, 3])],
        [helper.make_tensor_value_info("mask", dtype, [batch, height, width])],
    )


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """Writes model.onnx. `change` changes its metadata, as `metadata` says; `bare` leaves the metadata out."""

    def make(
        input: str = "image",
        classes: int = 3,
        size: tuple[int | str, int | str] = ("height", "width"),
        batch: int | str = "batch",
        change: dict[str, Any] | None = None,
        bare: bool = False,
    ) -> Path:
        model = helper.make_model(
            graph(input, classes, size, batch), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
        )
        if not bare:
            helper.set_model_props(model, metadata(input, classes, change))
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return path

    return make


def convolutions(classes: int, seed: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """uint8 `image` to `logits` by 3 x 3, 3 x 3 (dilation 2) and 1 x 1: the receptive field reaches 3 pixels."""
    random = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["real", "scale"], ["unit"]),
        helper.make_node("Sub", ["unit", "middle"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["x0"], perm=[0, 3, 1, 2]),
    ]
    tensors = [
        numpy_helper.from_array(np.array(x, np.float32), name) for x, name in [(1 / 255, "scale"), (0.5, "middle")]
    ]
    channels = [3, 8, 8, classes]
    for i, (kernel, dilation) in enumerate([(3, 1), (3, 2), (1, 1)]):
        weight = random.normal(0, 3 * (channels[i] * kernel**2) ** -0.5, (channels[i + 1], channels[i], kernel, kernel))
        weight -= weight.mean((1, 2, 3), keepdims=True)  # so that no class wins everywhere
        bias = random.normal(0, 0.02, channels[i + 1])
        tensors += [numpy_helper.from_array(weight.astype(np.float32), f"w{i}")]
        tensors += [numpy_helper.from_array(bias.astype(np.float32), f"b{i}")]
        pads = 4 * [kernel // 2 * dilation]
        to = "logits" if i == 2 else f"c{i}"
        nodes += [helper.make_node("Conv", [f"x{i}", f"w{i}", f"b{i}"], [to], pads=pads, dilations=2 * [dilation])]
        nodes += [helper.make_node("Relu", [to], [f"x{i + 1}"])] if i < 2 else []
    return nodes, tensors


@pytest.fixture
def make_network(tmp_path: Path) -> MakeFile:
    """Writes network.onnx: convolutions with random weights and the given outputs."""

    def make(
        classes: int = 5,
        outputs: tuple[str, ...] = ("mask", "confidence", "logits"),
        size: tuple[int | str, int | str] = ("height", "width"),
        batch: int | str = "batch",
        size_divisibility: int = 1,
        seed: int = 0,
        padded_logits: str | None = None,
    ) -> Path:
        nodes, tensors = convolutions(classes, seed)
        nodes += [
            helper.make_node("ArgMax", ["logits"], ["index"], axis=1, keepdims=0),
            helper.make_node("Cast", ["index"], ["mask"], to=TensorProto.UINT8),
            helper.make_node("Softmax", ["logits"], ["each"], axis=1),
            helper.make_node("ReduceMax", ["each", "axes"], ["confidence"], keepdims=0),
        ]
        tensors += [numpy_helper.from_array(np.array([1]), "axes")]
        dtypes = {"mask": TensorProto.UINT8, "confidence": TensorProto.FLOAT, "logits": TensorProto.FLOAT}
        shapes = {name: [batch, *([classes] if name == "logits" else []), *size] for name in dtypes}
        graph = helper.make_graph(
            nodes,
            "convolutions",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, *size, 3])],
            [helper.make_tensor_value_info(name, dtypes[name], shapes[name]) for name in outputs],
            tensors,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        fields = {"size_divisibility": size_divisibility}
        if padded_logits is not None:
            fields["padded_logits"] = padded_logits
        helper.set_model_props(model, metadata("image", classes, fields))
        path = tmp_path / "network.onnx"
        onnx.save(model, path)
        return path

    return make


@pytest.fixture
def scene() -> Callable[..., np.ndarray]:
    """Draws smooth blobs with noise, uint8 (height, width, 3)."""

    def draw(height: int, width: int, seed: int = 0) -> np.ndarray:
        random = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width]
        waves = [np.sin(y / a + x / b) for a, b in random.uniform(5, 40, (3, 2))]
        noise = random.normal(0, 20, (height, width, 3))
        return (127 + 90 * np.stack(waves, 2) + noise).clip(0, 255).astype(np.uint8)

    return draw


class Machine:
    """A machine with a GPU, or with part of what a GPU needs, simulated by patching a few functions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def driver(self, gpus: int = 1, cuda: tuple[int, int] | None = None) -> None:
        driver = nvidia_driver.Driver(gpus, cuda or (device.built_for(), 0))
        self.monkeypatch.setattr(nvidia_driver, "read_driver", lambda: driver)

    def cuda_in_build(self) -> None:
        self.monkeypatch.setattr(
            onnxruntime, "get_available_providers", lambda: [device.TENSORRT, device.CUDA, device.CPU]
        )

    def without(self, *names: str) -> None:
        """Makes these libraries fail to load, and all others load."""

        def load(name: str) -> None:
            if any(part in name for part in names):
                raise OSError(f"{name}: cannot open shared object file")

        self.monkeypatch.setattr(nvidia_driver, "load_library", load)

    def fake_sessions(self, providers: list[str], fails: str = "") -> list[dict[str, Any]]:
        """Makes sessions that claim `providers`, run on the CPU, and raise `fails` if run. Returns the calls."""
        calls: list[dict[str, Any]] = []

        class Fake(CpuSession):  # type: ignore[misc]
            def __init__(self, path: str, options: Any, providers: list[Any], enable_fallback: int = 1) -> None:
                calls.append({"providers": providers, "enable_fallback": enable_fallback})
                super().__init__(path, options, providers=[device.CPU])

            def get_providers(self) -> list[str]:
                return providers

            def io_binding(self) -> Any:
                binding = super().io_binding()
                bind = binding.bind_output
                binding.bind_output = lambda name, device, number, *rest: bind(name, "cpu", 0, *rest)
                return binding

            def run_with_iobinding(self, binding: Any, options: Any = None) -> None:
                calls.append({"run": shapes[-1]})
                if fails:
                    raise RuntimeError(fails)
                super().run_with_iobinding(binding, options)

        shapes: list[tuple[int, ...]] = []

        def allocate(shape: Any, dtype: Any, target: tuple[str, int]) -> Any:
            assert target[0] == "cuda"
            if len(shape) == 4:
                shapes.append(tuple(shape))
            return onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(shape), np.dtype(dtype).type, "cpu", 0)

        self.monkeypatch.setattr("segzoo.inference.backends.onnxruntime.io_binding.allocate", allocate)
        self.monkeypatch.setattr(onnxruntime, "InferenceSession", Fake)
        return calls

    def ready(self) -> None:
        self.cuda_in_build()
        self.driver(gpus=2)
        self.monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
        self.without()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)
