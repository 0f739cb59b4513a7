"""A Predictor returns the right masks, in the right order, and refuses invalid input."""

import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnxruntime
import pytest
from PIL import Image

import segzoo
from segzoo.classes import ClassSet
from segzoo.errors import CheckpointError, ImageError, SegzooError
from segzoo.inference import EngineOptions, OnnxBackend, Predictor
from segzoo.inference.execution import GPU_BATCH, Execution
from segzoo.spec import ExportSpec, ModelSpec

MakeFile = Callable[..., Path]


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_attributes(make_file: MakeFile) -> None:
    session = Predictor(make_file(), device="cpu")
    assert session.classes == ClassSet.generic(3)
    assert session.spec.in_channels == 3
    assert session.spec.encoder == "vgg16"
    assert (session.device, session.backend.provider) == ("cpu", "CPUExecutionProvider")
    assert session.device_reason == "Running on cpu, because device='cpu' was requested."
    assert repr(session).endswith("model.onnx', 3 classes, on cpu)")


def test_placement(make_file: MakeFile) -> None:
    session = Predictor(make_file(), "cpu")
    assert set(session.backend.placement) == {"CPUExecutionProvider"}
    assert "ArgMax" in session.backend.placement["CPUExecutionProvider"]


def test_one_image(make_file: MakeFile, tmp_path: Path) -> None:
    session = Predictor(make_file(), "cpu")
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, :, 1] = pixels[1, 2, 2] = 200
    expected = [[1, 1, 1], [0, 0, 2]]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for image in (pixels, Image.fromarray(pixels), tmp_path / "a.png", str(tmp_path / "a.png")):
        mask = session.predict(image).mask
        assert mask.dtype == np.uint8
        assert mask.tolist() == expected


def test_a_page_of_a_file(make_network: MakeFile, tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    predictor = Predictor(make_network(outputs=("mask",), padded_logits="logits"), "cpu")
    arrays = [random_image(3, 4 + index, index) for index in range(3)]
    first, *more = map(Image.fromarray, arrays)
    first.save(path, save_all=True, append_images=more)
    for page, array in enumerate(arrays, 1):
        whole, tiled = predictor.predict(array), predictor.predict(array, tile=2)
        (streamed,) = predictor.stream([path], page=page)
        (listed,) = predictor.predict([str(path)], page=page)
        for result in (
            streamed,
            listed,
            predictor.predict(path, page=page),
            predictor.submit(path, page=page).result(),
        ):
            assert result.page == page and np.array_equal(result, whole)
            assert np.array_equal(result.overlay(), whole.overlay())
        assert np.array_equal(predictor.predict(path, page=page, tile=2), tiled)
    with pytest.warns(UserWarning, match="has several pages, of which the first is read"):
        unspecified = predictor.predict(path)
    assert unspecified.page == 1 and np.array_equal(unspecified, predictor.predict(arrays[0]))
    assert np.array_equal(unspecified.overlay(), predictor.predict(arrays[0]).overlay())
    with pytest.raises(ImageError, match="has 3 pages, so there is no page 4"):
        predictor.predict(path, page=4)
    for options in ({}, {"tile": 2}):
        with pytest.raises(ImageError, match="page= is for files"):
            predictor.predict(random_image(3, 4), page=1, **options)
    predictor.close()


@pytest.mark.parametrize("container", [list, tuple])
def test_a_list_keeps_its_order(container: type, make_file: MakeFile) -> None:
    sizes = [(4, 5), (5, 4), (4, 5), (7, 1), (5, 4)] + 20 * [(4, 5)]
    images = [random_image(*size, seed) for seed, size in enumerate(sizes)]
    results = Predictor(make_file(), "cpu").predict(container(images))
    assert isinstance(results, list)
    assert len(results) == len(images)
    for image, result in zip(images, results, strict=True):
        assert np.array_equal(result.mask, image.argmax(2))


def test_an_empty_list(make_file: MakeFile) -> None:
    assert Predictor(make_file(), "cpu").predict([]) == []


@pytest.mark.parametrize(("batch", "expected"), [("batch", [8, 8, 1, 3]), (1, 20 * [1])])
def test_images_of_equal_size_run_together(
    batch: int | str, expected: list[int], make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    run = onnxruntime.InferenceSession.run

    def spy(self: Any, names: Any, feed: dict[str, np.ndarray]) -> Any:
        batches.append(len(feed["image"]))
        return run(self, names, feed)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", spy)
    if batch == "batch":
        monkeypatch.setattr(Execution, "batch_size", lambda self, plan: GPU_BATCH)  # on the CPU it is 1
    Predictor(make_file(batch=batch), "cpu").predict(17 * [random_image(4, 5)] + 3 * [random_image(5, 4)])
    assert batches == expected


def test_more_than_256_classes_are_int32(make_file: MakeFile) -> None:
    session = Predictor(make_file(classes=300), "cpu")
    assert len(session.classes) == 300
    assert session.predict(random_image(2, 2)).mask.dtype == np.int32


def test_a_bad_image_in_a_list_is_named(make_file: MakeFile, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png"):
        Predictor(make_file(), "cpu").predict([random_image(2, 2), tmp_path / "gone.png"])


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (random_image(4, 5), r"uint8 \(N, H, W, 3\), 0-255; got uint8 \(4, 5, 3\)"),
        (random_image(4, 5)[None] / 255, r"got float64 \(1, 4, 5, 3\)"),
        (np.zeros((1, 3, 4, 5), np.uint8), r"got uint8 \(1, 3, 4, 5\)"),
        (np.zeros((0, 4, 5, 3), np.uint8), r"got uint8 \(0, 4, 5, 3\)"),
        ([[1]], "got list"),
    ],
)
def test_other_batches_are_refused(batch: Any, message: str, make_file: MakeFile) -> None:
    with pytest.raises(ImageError, match=message):
        OnnxBackend(make_file(), "cpu").run(batch)


def test_run_takes_a_batch(make_file: MakeFile) -> None:
    batch = np.stack([random_image(4, 5, seed) for seed in range(9)])
    backend = OnnxBackend(make_file(), "cpu", EngineOptions(threads=1))
    assert np.array_equal(backend.run(batch)["mask"], batch.argmax(3))


def test_a_fixed_size_is_checked(make_file: MakeFile) -> None:
    session = Predictor(make_file(size=(4, 5)), "cpu")
    assert session.predict(random_image(4, 5)).mask.shape == (4, 5)
    with pytest.raises(ImageError, match=r"exported for batches of .*4, 5, 3.*got \(1, 6, 5, 3\)"):
        session.predict(random_image(6, 5))


# input="tensor"


def test_tensor_files_give_logits(make_file: MakeFile) -> None:
    backend = OnnxBackend(make_file("tensor"), "cpu")
    batch = np.linspace(-1, 1, 2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    assert np.array_equal(backend.run_tensor(batch), 2 * batch)
    with pytest.raises(ImageError, match=r"float32 \(N, 3, H, W\); got float32 \(2, 4, 5, 3\)"):
        backend.run_tensor(batch.transpose(0, 2, 3, 1))


def test_each_input_has_its_methods(make_file: MakeFile) -> None:
    path = make_file("tensor")
    with pytest.raises(SegzooError, match=r"exported with input='tensor' and takes no images.*OnnxBackend.*run_tensor"):
        Predictor(path, "cpu")
    with pytest.raises(SegzooError, match="returns logits: use run_tensor, or export the model with input='image'"):
        OnnxBackend(path, "cpu").run(random_image(4, 5)[None])
    with pytest.raises(SegzooError, match="use run or Predictor, or export the model with input='tensor'"):
        OnnxBackend(make_file(), "cpu").run_tensor(np.zeros((1, 3, 4, 5), np.float32))


# Files


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.onnx", None, "There is no file"),
        ("empty.onnx", b"", "is empty"),
        ("notes.onnx", b"Dear diary, " * 9, "cannot be loaded as ONNX.*truncated"),
        (
            "weights.safetensors",
            b"\x08\0\0\0\0\0\0\0{}      ",
            "holds weights, which onnxruntime cannot run. `segzoo export ",
        ),
        ("weights.pth", b"PK\x03\x04 and so on", "looks like a torch checkpoint"),
    ],
)
def test_other_files_are_refused(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        OnnxBackend(tmp_path / name, "cpu")
    assert name in str(caught.value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        OnnxBackend(tmp_path)


def test_a_truncated_file_is_refused(make_file: MakeFile) -> None:
    path = make_file()
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match=r"model\.onnx"):
        Predictor(path, "cpu")


def test_a_file_of_another_program_is_refused(make_file: MakeFile) -> None:
    with pytest.raises(CheckpointError, match=r"without segzoo's metadata.*Export the model with segzoo.export"):
        Predictor(make_file(bare=True), "cpu")


RGBA = {"in_channels": 4, "mean": [0.5] * 4, "std": [0.5] * 4}
PAIR = {"names": ["background", "pet"], "palette": [[0, 0, 0], [128, 0, 0]]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": None}, "is invalid: classes is missing"),
        ({"mean": None, "in_channels": None}, "is invalid: in_channels is missing; mean is missing"),
        ({"input": None}, "is invalid: input is missing"),
        ({"classes": {"names": ["a"]}}, "is invalid: A class set needs a list under 'palette'"),
        ({"task": "binary"}, "is invalid: task 'binary' needs two class names, not 3"),
        (
            {"task": "binary", "classes": PAIR},
            "holds a binary model for uint8 images, but this segzoo only runs multiclass",
        ),
        ({"input_dtype": "uint16"}, "holds a multiclass model for uint16 images, but this segzoo only runs"),
        ({"mean": [], "std": []}, "is invalid: mean and std are empty"),
        ({"format_version": 99}, "is invalid: It has format version 99, .*Update segzoo"),
        ({"size_divisibility": 0}, "size_divisibility must be 1 or more"),
        (RGBA, "contradicts its graph: in_channels is 4, but the graph takes"),
        ({"input": "video"}, "input must be 'image' or 'tensor', not 'video'"),
        ({"input": "tensor"}, r"input is 'tensor', but the graph takes tensor\(uint8\)"),
    ],
)
def test_invalid_metadata_is_refused(change: dict[str, Any], message: str, make_file: MakeFile) -> None:
    with pytest.raises(CheckpointError, match=message):
        Predictor(make_file(change=change), "cpu")


def test_class_names_that_contradict_the_logits_are_refused(make_file: MakeFile) -> None:
    with pytest.raises(CheckpointError, match=r"there are 4 classes, but the graph's logits are \['batch', 3, "):
        Predictor(make_file("tensor", classes=4), "cpu")


def test_damaged_metadata_is_refused(make_file: MakeFile) -> None:
    path = make_file()
    path.write_bytes(path.read_bytes().replace(b'"vgg16"', b'"vgg16.'))
    with pytest.raises(CheckpointError, match=r"metadata of .* is invalid: segzoo.encoder is not JSON"):
        Predictor(path, "cpu")


def test_a_failing_run_states_the_batch(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Predictor(make_file(), "cpu")

    def fail(*_: Any) -> None:
        raise RuntimeError("Failed to allocate memory.")

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", fail)
    with pytest.raises(SegzooError, match=r"batch of \(1, 4, 5, 3\) on cpu: Failed to allocate memory"):
        session.predict(random_image(4, 5))


@pytest.mark.parametrize("threads", [0, -2])
def test_at_least_one_thread(threads: int, make_file: MakeFile) -> None:
    with pytest.raises(SegzooError, match=f"threads must be 1 or more, not {threads}"):
        Predictor(make_file(), "cpu", threads=threads)


def test_threads_may_share_a_session(make_network: MakeFile, scene: Callable[..., np.ndarray]) -> None:
    """Eight threads, with different image sizes, by each way of predicting, against results of one thread."""
    session = Predictor(make_network(), "cpu", threads=1)
    images = {seed: [scene(8 + 3 * seed, 9 + step, seed) for step in range(4)] for seed in range(8)}
    expected = {seed: [(session.predict(i), session.predict(i, tile=12)) for i in images[seed]] for seed in images}
    wrong: list[tuple[int, int]] = []
    barrier = threading.Barrier(8)

    def work(seed: int) -> None:
        barrier.wait()
        for step in range(12):
            image, (whole, tiled) = images[seed][step % 4], expected[seed][step % 4]
            same = [np.array_equal(session.predict(image), whole), np.array_equal(session.predict([image])[0], whole)]
            same.append(np.array_equal(session.predict(image, tile=12), tiled))
            same += [np.array_equal(result, whole) for result in session.stream([image])]
            if not all(same):
                wrong.append((seed, step))

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_cuda_graphs_are_not_dropped_silently(make_file: MakeFile) -> None:
    if Predictor(make_file(), "auto").device != "cpu":
        pytest.skip("this machine has a GPU")
    with pytest.raises(SegzooError, match="cuda_graph=True needs CUDA"):
        Predictor(make_file(size=(4, 5), batch=1), "auto", cuda_graph=True)


@pytest.mark.parametrize("name", ["string", "float", "smaller", "beyond"])
def test_a_graph_that_is_not_what_it_says_is_refused(name: str, make_file: MakeFile) -> None:
    path = make_file()
    model = onnx.load(path)
    graph, (mask,) = model.graph, model.graph.output
    if name == "string":
        graph.node[-1].attribute[0].i = mask.type.tensor_type.elem_type = onnx.TensorProto.STRING
    elif name == "float":
        graph.node[-1].attribute[0].i = mask.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    else:
        graph.node[-1].output[0] = "before"
        if name == "beyond":
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(7, np.uint8), "seven"))
            graph.node.append(onnx.helper.make_node("Add", ["before", "seven"], ["mask"]))
        else:
            for key, value in {"starts": 0, "ends": 2, "axes": 1}.items():
                graph.initializer.append(onnx.numpy_helper.from_array(np.array([value], np.int64), key))
            graph.node.append(onnx.helper.make_node("Slice", ["before", "starts", "ends", "axes"], ["mask"]))
    onnx.save(model, path)
    with pytest.raises(SegzooError, match=r"contradicts its graph: the output 'mask'|is \(1, 2, 5\) for|values 0-2"):
        Predictor(path, "cpu").predict(random_image(4, 5))


def test_a_relative_path_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segzoo.save(segzoo.create("unet", encoder="test_resnet", num_classes=2), tmp_path / "m.safetensors")
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(Predictor("m.safetensors", device="cpu"))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert len(pickle.loads(pickled).classes) == 2


@pytest.mark.parametrize("options", [{"confidence": True}, {"probabilities": True}, {"tile": 16}])
@pytest.mark.parametrize("named", ["index", "confidence", "axes"])
def test_a_value_that_holds_no_logits_is_refused(
    options: dict[str, Any], named: str, make_network: Callable[..., Path]
) -> None:
    predictor = Predictor(make_network(outputs=("mask",), padded_logits=named), "cpu", threads=1)
    with pytest.raises(CheckpointError):
        predictor.predict(np.zeros((30, 40, 3), np.uint8), **options)


def test_onnxruntime_prints_no_name_of_a_file(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "escape.onnx"
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["n", "h", "w", 3])
    mask = onnx.helper.make_tensor_value_info("mask", onnx.TensorProto.UINT8, ["n", "h", "w"])
    shape = onnx.helper.make_tensor("shape", onnx.TensorProto.INT64, [3], [7, 7, 7])
    node = onnx.helper.make_node("Reshape", ["image", "shape"], ["mask"], name="\x1b[2Jgone")
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [image], [mask], [shape]), ir_version=10)
    model.opset_import[0].version = 18
    described = ModelSpec("unet", "vgg16", ClassSet.generic(2), mean=(0.5,) * 3, std=(0.2,) * 3)
    onnx.helper.set_model_props(model, described.to_metadata() | ExportSpec().to_metadata())
    onnx.save(model, path)
    with pytest.raises(SegzooError, match=r"Name:'\\x1b\[2Jgone'"):
        Predictor(path, device="cpu").predict(np.zeros((5, 6, 3), np.uint8))
    assert "\x1b[2J" not in "".join(capfd.readouterr())
