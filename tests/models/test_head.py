"""with_classes, and load with other classes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from segzoo import create, export, load, save
from segzoo.classes import CLASS_SETS, ClassSet
from segzoo.errors import ExportError, OptionError, UnknownNameError
from segzoo.models.base import SegmentationModel
from segzoo.models.decoders import DECODERS
from segzoo.models.head import with_classes


def tiny(num_classes: int = 3) -> SegmentationModel:
    return create("unet", encoder="test_resnet", num_classes=num_classes)


@pytest.mark.parametrize("decoder", DECODERS)
def test_another_number_of_classes_replaces_only_the_head(decoder: str, tmp_path: Path) -> None:
    options = {"upsample": "transposed"} if "transposed" in getattr(DECODERS[decoder], "upsample_modes", ()) else {}
    model = create(decoder, encoder="test_resnet", num_classes=5, **options)
    model.set_normalization((0.1, 0.2, 0.3), model.spec.std)
    path = save(model.with_info(license="CC0"), tmp_path / "m")
    again = load(path, num_classes=3)
    old, new = model.state_dict(), again.state_dict()
    changed = {name for name in old if old[name].shape != new[name].shape}
    assert changed == {name for name in old if 5 in old[name].shape}
    assert all(torch.equal(old[name], new[name]) for name in old if name not in changed)
    assert again.classes == ClassSet.generic(3)
    assert again.spec.mean == (0.1, 0.2, 0.3) and torch.equal(again.mean, model.mean)
    assert again.spec.info == {"started_from": {"license": "CC0", "num_classes": 5}}
    assert not again.training
    assert again(torch.randn(1, 3, 33, 47)).shape == (1, 3, 33, 47)
    rewritten = load(save(again, tmp_path / "n"))
    assert (rewritten.spec.num_classes, rewritten.spec.info) == (3, again.spec.info)


PHOTO = np.zeros((33, 47, 3), np.uint8)


def test_a_new_head_warns_once_unless_it_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tiny(num_classes=5), tmp_path / "m")
    load(path, num_classes=5).predict(PHOTO)  # the file's own head: a warning would fail the test
    model = load(path, num_classes=3)
    with pytest.warns(UserWarning, match="head for 3 classes is new, and its weights are random") as warned:
        model.predict([PHOTO, PHOTO])
        model.predict(PHOTO)
    assert len(warned) == 1
    trained = load(path, num_classes=3).train()
    trained(torch.randn(2, 3, 33, 47)).square().mean().backward()
    torch.optim.SGD(trained.parameters(), 0.1).step()
    trained.predict(PHOTO)

    def stop(*_: object) -> None:
        raise ExportError("Enough.")

    monkeypatch.setattr("segzoo.exporting.export._build_verified_graph", stop)
    with pytest.warns(UserWarning, match="its weights are random"), pytest.raises(ExportError, match="Enough"):
        export(load(path, num_classes=3), tmp_path / "a.onnx")


@pytest.mark.parametrize("name", ["paper/conv_deconv", "paper/segnet_basic"])
def test_a_new_head_of_a_papers_network_warns_too(name: str) -> None:
    model = with_classes(create(name), 3)
    with pytest.warns(UserWarning, match="head for 3 classes is new"):
        model.warn_of_new_head()


def test_the_same_number_of_classes_keeps_the_head(tmp_path: Path) -> None:
    model = tiny(num_classes=11)
    path = save(model, tmp_path / "m")
    for arguments in ({"num_classes": 11}, {"classes": "camvid"}, {"num_classes": 11, "classes": "camvid"}):
        again = load(path, **arguments)
        assert all(torch.equal(t, again.state_dict()[name]) for name, t in model.state_dict().items())
        assert again.classes == (CLASS_SETS["camvid"] if "classes" in arguments else ClassSet.generic(11))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "arguments",
    [{}, {"num_classes": 11}, {"classes": "camvid"}, {"num_classes": 11, "classes": "camvid"}, {"num_classes": 3}],
)
def test_with_classes_returns_a_new_model_and_leaves_the_old_one(arguments: dict[str, object], training: bool) -> None:
    model = tiny(num_classes=11).with_info(license="CC0").train(training)
    model.set_normalization((0.1, 0.2, 0.3), model.spec.std)
    spec, weights = model.spec, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    new = with_classes(model, **arguments)
    assert new is not model and not {*map(id, new.modules())} & {*map(id, model.modules())}
    assert new.training == model.training == training
    assert all(module.training == training for module in [*new.modules(), *model.modules()])
    assert model.spec is spec
    assert new.spec.mean == spec.mean and torch.equal(new.mean, model.mean) and torch.equal(new.std, model.std)
    assert new.classes == (
        CLASS_SETS["camvid"] if "classes" in arguments else ClassSet.generic(arguments.get("num_classes", 11))
    )
    old = model.state_dict()
    same_shape = {name for name, tensor in new.state_dict().items() if tensor.shape == old[name].shape}
    assert old.keys() - same_shape == (
        {"decoder.head.weight", "decoder.head.bias"} if new.spec.num_classes == 3 else set()
    )
    assert all(new.state_dict()[name].data_ptr() == old[name].data_ptr() for name in same_shape)  # shared
    new.set_normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    new.with_info(license="MIT")
    new.train(not training).half()  # changes Parameters in place
    assert model.training == training and model.spec is spec and model.mean[0] == torch.tensor(0.1)
    assert all(
        torch.equal(tensor, weights[name]) and tensor.dtype == weights[name].dtype
        for name, tensor in model.state_dict().items()
    )


def test_with_classes_keeps_dtype_device_and_frozen_parameters() -> None:
    model = tiny().half()
    for parameter in model.encoder.parameters():
        parameter.requires_grad_(False)
    model.encoder.eval()
    renamed = with_classes(model, classes=ClassSet(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2))))
    assert not any(p.requires_grad for p in renamed.encoder.parameters())
    assert all(p.requires_grad for p in renamed.decoder.parameters())
    assert renamed.decoder.training and not renamed.encoder.training
    for num_classes in (3, 5):
        new = with_classes(model, num_classes)
        assert {p.dtype for p in new.parameters()} == {torch.float16} and new.mean.dtype == torch.float32
        on_meta = with_classes(tiny().to("meta"), num_classes)
        assert all(tensor.is_meta for tensor in [*on_meta.parameters(), *on_meta.buffers()])


def test_with_classes_keeps_tied_weights_tied() -> None:
    model = create("paper/conv_deconv")
    new = with_classes(model, model.spec.num_classes)
    image = torch.rand(1, model.spec.in_channels, 40, 50)
    with torch.inference_mode():
        assert torch.equal(new.eval()(image), model.eval()(image))
    assert len([*new.parameters()]) == len([*model.parameters()])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "at least 2"),
        ({"num_classes": "3"}, "whole number"),
        ({"classes": "camvid"}, r"for 3 classes, and the class set names 11\. num_classes=11 gives"),
        ({"classes": "camvid", "num_classes": 4}, "names 11 classes"),
        ({"classes": "camvit"}, "Did you mean 'camvid'"),
        ({"classes": 3}, "name of a class set"),
    ],
)
def test_invalid_classes(arguments: dict[str, object], message: str, tmp_path: Path) -> None:
    path = save(tiny(), tmp_path / "m")
    with pytest.raises((OptionError, UnknownNameError), match=message):
        load(path, **arguments)


@pytest.mark.parametrize("num_classes", [3, 5])
def test_frozen_parameters_and_modes_are_kept(num_classes: int) -> None:
    model = create("unet", "test_resnet", 3).train()
    model.encoder.requires_grad_(False).eval()
    new = with_classes(model, num_classes)
    assert not any(parameter.requires_grad for parameter in new.encoder.parameters())
    assert all(parameter.requires_grad for parameter in new.decoder.parameters())
    assert not any(module.training for module in new.encoder.modules())
    assert all(module.training for module in new.decoder.modules())
