"""The torch backend: right from any thread and in any mode, and the model stays as it was."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backend_contract import check_backend
from torch import nn

import segzoo
from segzoo.errors import OptionError, SegzooError
from segzoo.inference import Backend, OnnxBackend, TorchBackend
from segzoo.inference.backends.torch import evaluation_view
from segzoo.models.base import evaluating


def small(decoder: str = "unet", encoder: str | None = "test_resnet", **options: Any) -> Any:
    torch.manual_seed(0)
    return segzoo.create(decoder, encoder, num_classes=4, **options)


def images(count: int, size: tuple[int, int] = (40, 56)) -> list[np.ndarray]:
    return [np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8) for seed in range(count)]


def state(model: nn.Module) -> tuple[dict[str, torch.Tensor], list[bool]]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}, [m.training for m in model.modules()]


# FeatureHookNet collects its maps in an object that is shared by hooks; Bayesian SegNet has dropout.
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("decoder", "encoder"), [("unet", "test_resnet"), ("fcn", "legacy_xception"), ("paper/bayesian_segnet_basic", None)]
)
def test_eight_threads_get_the_masks_of_one_and_change_nothing(
    decoder: str, encoder: str | None, training: bool
) -> None:
    model = small(decoder, encoder).train(training)
    pictures = images(6)
    expected = [model.predict(picture) for picture in pictures]
    tensors, modes = state(model)
    assert set(modes) == {training}
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(model.predict, pictures * 6))
    assert all(map(np.array_equal, results, expected * 6))
    after, modes_after = state(model)
    assert modes_after == modes
    assert all(torch.equal(tensors[name], tensor) for name, tensor in after.items())


def test_without_the_view_training_mode_gives_other_masks() -> None:
    """The test above can fail: in training mode, batch normalization uses the statistics of the image."""
    model = small().train()
    picture = torch.from_numpy(images(1)[0])[None]
    with torch.inference_mode():
        mask, _ = model.classify(picture)
    assert not np.array_equal(mask[0], model.predict(images(1)[0]))
    assert model.encoder.net.bn1.num_batches_tracked == 1


@pytest.mark.parametrize(
    "decoder", ["fcn32s", "fcn16s", "fcn8s", "fcn", "unet", "segnet", "deconvnet", "deeplab_largefov"]
)
def test_the_view_is_the_model_in_eval_mode(decoder: str) -> None:
    encoder = "vgg11_bn" if decoder in ("segnet", "deconvnet") else "test_resnet"
    model = small(decoder, encoder, **({"output_stride": 8} if decoder in ("fcn", "deeplab_largefov") else {})).train()
    check_view(model)


@pytest.mark.parametrize("name", ["paper/segnet_basic", "paper/bayesian_segnet_basic", "paper/xception_unet"])
def test_the_view_of_a_papers_network(name: str) -> None:
    check_view(small(name, None).train())


def test_the_view_of_a_network_from_a_string() -> None:
    check_view(segzoo.create("paper/conv_deconv", architecture="C5,8,2C5,8,1M2C5,8,2C5,8,1M2").train())


def check_view(model: Any) -> None:
    x = torch.rand(2, model.spec.in_channels, 33, 47)
    tensors, modes = state(model)
    with torch.inference_mode():
        logits = evaluation_view(model)(x)
        with evaluating(model):
            assert torch.equal(logits, model(x))
    after, modes_after = state(model)
    assert modes_after == modes and all(torch.equal(tensors[name], tensor) for name, tensor in after.items())


def test_the_view_follows_what_happens_to_the_model() -> None:
    model = small().eval()
    view = evaluation_view(model)
    with torch.no_grad():
        model.decoder.head.bias.add_(1)
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(view(x), model(x))
    model.double()
    with torch.no_grad():
        assert torch.equal(view(x.double()), model(x.double()))


def test_frozen_modules_hooks_and_replaced_forwards_are_kept() -> None:
    model = small().train()
    model.encoder.eval()
    seen: list[bool] = []
    model.decoder.head.register_forward_hook(lambda module, inputs, output: seen.append(module.training))
    forward = model.decoder.forward
    model.decoder.forward = forward  # bound to the model, as a wrapper's method would be
    model.predict(images(1)[0])
    assert seen == [False]
    assert model.decoder.training and not model.encoder.training


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_predict_or_say_why_not(dtype: torch.dtype) -> None:
    model = small().eval()
    picture = images(1)[0]
    expected = model.predict(picture).mask
    try:
        result = model.to(dtype).predict(picture, confidence=True)
    except SegzooError as error:
        assert str(dtype) in str(error) and "model.float()" in str(error)
        return
    assert (result.mask == expected).mean() > 0.9
    assert result.confidence is not None and result.confidence.dtype == np.float32


def test_another_default_dtype_changes_nothing() -> None:
    model = small().eval()
    picture = images(1)[0]
    expected = model.predict(picture, tile=32, tta="flip", probabilities=True)
    torch.set_default_dtype(torch.float64)
    try:
        again = model.predict(picture, tile=32, tta="flip", probabilities=True)
    finally:
        torch.set_default_dtype(torch.float32)
    assert np.array_equal(again, expected) and np.array_equal(again.probabilities, expected.probabilities)


def test_a_model_on_the_meta_device_has_no_values() -> None:
    with torch.device("meta"):
        model = small()
    with pytest.raises(OptionError, match="meta device, where weights have no values"):
        model.predict(images(1)[0])


@pytest.mark.parametrize("decoder", ["unet", "fcn"])
def test_the_contract_of_a_backend(decoder: str) -> None:
    backend = TorchBackend(small(decoder))
    assert ("sampled_logits" in backend.outputs) == (decoder == "fcn")  # which has dropout
    check_backend(backend)


@torch.inference_mode()
def test_any_model_with_dropout_can_be_sampled() -> None:
    """Dropout is random, batch normalization is not, and the model stays in its mode."""
    model = small("fcn").train()
    (picture,) = images(1)
    tensors, modes = state(model)
    torch.manual_seed(5)
    result = model.predict(picture, samples=6)
    after, modes_after = state(model)
    assert modes_after == modes and all(torch.equal(tensors[name], tensor) for name, tensor in after.items())
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    torch.manual_seed(5)
    _, logits = model.classify(torch.from_numpy(picture)[None].repeat(6, 1, 1, 1))
    stacked = logits.softmax(1).double().numpy()
    np.testing.assert_allclose(result.probabilities, stacked.mean(0), atol=1e-6)
    np.testing.assert_allclose(result.variance, stacked.var(0), atol=1e-6)
    assert result.variance is not None and result.variance.max() > 0
    assert np.array_equal(result.mask, result.probabilities.argmax(0))


@pytest.mark.parametrize(
    "options",
    [{}, {"confidence": True, "logits": True}, {"precision": "fp16"}, {"static_shape": (1, 32, 64)}],
    ids=["plain", "outputs", "fp16", "static"],
)
def test_exported_files_keep_the_contract(options: dict[str, Any], export_cache: Any) -> None:
    backend = OnnxBackend(export_cache(small().eval(), **options).path, "cpu")
    assert isinstance(backend, Backend) and "logits" in backend.outputs
    check_backend(backend)


@pytest.mark.parametrize("options", [{"tile": 32, "overlap": 16}, {"tta": ("flip", 0.75, 1)}, {"probabilities": True}])
def test_options_mean_the_same_for_torch_and_onnx(options: dict[str, Any], export_cache: Any) -> None:
    model = small().eval()
    picture = images(1, (70, 90))[0]
    in_torch = model.predict(picture, confidence=True, **options)
    in_onnx = segzoo.Predictor(export_cache(model).path, "cpu").predict(picture, confidence=True, **options)
    assert (in_torch.mask == in_onnx.mask).mean() > 0.999
    assert np.abs(in_torch.confidence - in_onnx.confidence).max() < 1e-4


def test_samples_need_dropout(export_cache: Any) -> None:
    picture = images(1)[0]
    model = small("paper/bayesian_segnet_basic", None).train()
    result = model.predict(picture, samples=4, confidence=True)
    assert result.variance is not None and result.variance.max() > 0 and result.variance.shape == (4, 40, 56)
    assert np.allclose(result.probabilities.max(0), result.confidence)
    with pytest.raises(OptionError, match="samples= needs a model with dropout, which EncoderDecoder does not have"):
        small().predict(picture, samples=4)
    graph = segzoo.Predictor(export_cache(small().eval()).path, "cpu")
    with pytest.raises(OptionError, match="Load the model in torch, since graphs have no dropout"):
        graph.predict(picture, samples=4)
    with pytest.raises(OptionError, match="samples= cannot be combined with tile= or tta="):
        model.predict(picture, samples=4, tile=32)


def test_a_file_of_weights_is_opened_by_path_and_device(tmp_path: Path) -> None:
    model = small().eval()
    path = segzoo.save(model, tmp_path / "small")
    predictor = segzoo.Predictor(path, "cpu")
    assert predictor.device_reason == "Running on cpu, because device='cpu' was requested."
    assert np.array_equal(predictor.predict(images(1)[0]), model.predict(images(1)[0]))
    with pytest.raises(OptionError, match="threads cannot be set for torch"):
        segzoo.Predictor(path, "cpu", threads=1)
    with pytest.raises(OptionError, match=r"The model is on cpu, not on 'cuda'. Move it first"):
        segzoo.Predictor(model, "cuda")
