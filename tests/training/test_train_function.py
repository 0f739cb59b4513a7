"""`segzoo.train`: a model object trained on a data object, with own loss, optimizer, augmentation and callbacks."""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset

import segzoo
from segzoo.classes import ClassSet
from segzoo.data.augment import Augmentation
from segzoo.data.dataset import SegmentationData
from segzoo.data.datasets import open_data
from segzoo.data.masks import read_mask
from segzoo.data.pairs import PairData
from segzoo.errors import DataError, MissingPackageError, OptionError, SegzooError, TrainingError
from segzoo.formatting import sections
from segzoo.models.base import SegmentationModel
from segzoo.training.callbacks import Callback, CsvLog, Row
from segzoo.training.evaluate import evaluate
from segzoo.training.fit import train as train_recipe
from segzoo.training.losses import create_loss
from segzoo.training.train import TrainingResult
from segzoo.weights.checkpoint import read_spec

QUICK = {"epochs": 1, "batch_size": 4, "accelerator": "cpu", "workers": 0, "threads": 1}
STEPS = [{"name": "flip"}, {"name": "crop", "height": 32, "width": 32, "scale": [0.8, 1.2]}]


@pytest.fixture(autouse=True)
def _csv_log_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the other logs: drawing curves takes longer than these runs."""
    for module in ("fit", "train"):
        monkeypatch.setattr(f"segzoo.training.{module}.logs", lambda folder: [CsvLog(folder)])


@pytest.fixture
def data(shapes: Path) -> SegmentationData:
    return open_data("folder", shapes, "train")


@pytest.fixture
def held_out(shapes: Path) -> SegmentationData:
    return open_data("folder", shapes, "val")


def new_model(decoder: str = "unet", encoder: str | None = "test_resnet", **options: Any) -> SegmentationModel:
    torch.manual_seed(1)
    return segzoo.create(decoder, encoder, **{"num_classes": 3, **options})


def train(model: SegmentationModel, data: Any, **arguments: Any) -> TrainingResult:
    return segzoo.train(model, data, **{**QUICK, **arguments})


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []


class Recorder(Callback):
    """Records its calls; raises in a step."""

    def __init__(self, fail_in_step: int = -1) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.fail_in_step = fail_in_step

    def on_fit_start(self, epoch: int, epochs: int, steps_per_epoch: int, history: Sequence[Row]) -> None:
        self.calls.append(("on_fit_start", (epoch, epochs, steps_per_epoch, len(history))))

    def on_step_end(self, step: int, loss: float) -> None:
        self.calls.append(("on_step_end", step))
        if step == self.fail_in_step:
            raise KeyboardInterrupt

    def on_epoch_end(self, history: Sequence[Row]) -> None:
        self.calls.append(("on_epoch_end", len(history)))

    def on_fit_end(self, reason: str) -> None:
        self.calls.append(("on_fit_end", reason))


class Pairs(Dataset[tuple[Any, Any]]):
    """A torch data set of pairs."""

    def __init__(self, images: Any, masks: Any) -> None:
        self.images, self.masks = images, masks

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.images[index], self.masks[index]


class MyLoss(nn.Module):
    """Cross-entropy that counts its calls and learns a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.seen: list[tuple[torch.dtype, torch.dtype]] = []

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.seen.append((logits.dtype, target.dtype))
        return F.cross_entropy(self.scale * logits, target, ignore_index=255)


def test_training_improves_the_model_that_was_passed(data, held_out):
    model = new_model()
    result = train(model, data, validation=held_out, epochs=6, batch_size=2, lr=0.01, evaluate_every=3)
    assert result.model is model
    losses = [row["train_loss"] for row in result.history]
    assert len(losses) == 6 and losses[-1] < 0.7 * losses[0]
    assert result.history[-1]["val_mean_iou"] == pytest.approx(evaluate(model, held_out).matrix.mean_iou, abs=1e-9)
    assert result.best_mean_iou == max(row.get("val_mean_iou", 0.0) for row in result.history)
    assert result.best_epoch in (3, 6) and result.reason == "All 6 epochs are done."
    assert (result.last, result.best) == (None, None)


def test_nothing_is_written_without_an_output_folder(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = train(new_model(), data)
    assert list(tmp_path.iterdir()) == []
    assert (result.best_mean_iou, result.best_epoch) == (None, None)


def test_a_model_with_numbered_classes_takes_those_of_the_data(data):
    assert train(new_model(), data).model.classes == data.classes


@pytest.mark.parametrize("options", [{}, {"ema": 0.5, "precision": "bf16", "freeze_batchnorm": True}])
@pytest.mark.slow
def test_the_weights_are_those_of_a_run_by_a_recipe(options, small, data, held_out, tmp_path):
    start = segzoo.save(new_model(classes=data.classes), tmp_path / "start")
    loss = {"loss": "ce + 0.5*dice", "class_weights": "median_frequency", "logit_adjustment": 0.5}
    hardware = {name: value for name, value in options.items() if name == "precision"}
    recipe = small(
        model={"init_from": str(start)},
        augmentation=STEPS,
        loss=loss,
        schedule={"name": "poly", "warmup": 1.0},
        optimizer={"name": "sgd", "lr": 0.01, "clip_grad_norm": 1.0},
        run={"epochs": 2, "seed": 5} | {name: value for name, value in options.items() if name not in hardware},
        hardware=hardware,
    )
    expected = load_file(train_recipe(recipe, tmp_path / "recipe"))
    result = train(
        segzoo.load(start),
        data,
        validation=held_out,
        output=tmp_path / "objects",
        augmentation=STEPS,
        loss=loss,
        optimizer="sgd",
        lr=0.01,
        clip_grad_norm=1.0,
        schedule={"name": "poly", "warmup": 1.0},
        **{"epochs": 2, "seed": 5, **options},
    )
    assert_equal(load_file(result.last), expected)
    assert_equal(weights(result.model), expected)  # the moving average and the adjusted logits, too
    assert result.best == tmp_path / "objects" / "best.safetensors" and result.best.is_file()


@pytest.mark.slow
def test_own_objects_give_the_weights_of_those_built_by_name(data):
    """Own loss, optimizer, schedule and augmentation that compute the same as the named ones."""
    named, own, factory = new_model(), new_model(), new_model()
    start = weights(named)
    settings = {"epochs": 2, "clip_grad_norm": 1.0}
    sgd = {"name": "sgd", "lr": 0.01, "weight_decay": 0.0}
    train(named, data, augmentation=STEPS, optimizer=sgd, schedule={"name": "poly", "power": 1.0}, **settings)
    objects = {"augmentation": Augmentation(STEPS, 255), "loss": create_loss("ce", 255), "schedule": lambda t: 1 - t}
    optimizer = torch.optim.SGD(own.parameters(), 0.01, momentum=0.9, nesterov=True)
    train(own, data, optimizer=optimizer, **objects, **settings)
    train(
        factory, data, optimizer=functools.partial(torch.optim.SGD, lr=0.01, momentum=0.9, nesterov=True),
        **objects, **settings,
    )  # fmt: skip
    for model in (own, factory):
        for name, expected in named.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(named.decoder.head.weight, start["decoder.head.weight"])
    assert optimizer.param_groups[0]["lr"] == 0.01  # and not the end of the schedule


def test_an_own_loss_is_called_in_training_and_validation(data, held_out):
    loss = MyLoss()
    train(new_model(), data, validation=held_out, loss=loss, precision="bf16")
    assert len(loss.seen) == 2 + 2  # steps, and batches of 5 held-out images
    assert set(loss.seen) == {(torch.float32, torch.int64)}


def test_an_own_loss_is_applied_to_the_auxiliary_head(data):
    model, loss = new_model("fcn", auxiliary=True), MyLoss()
    before = weights(model)
    train(model, data, loss=loss, auxiliary=0.1)
    assert len(loss.seen) == 2 * 2
    changed = [name for name, _ in model.named_parameters() if not torch.equal(model.state_dict()[name], before[name])]
    assert set(changed) == {name for name, _ in model.named_parameters()}


def test_callbacks_see_the_run(data):
    recorder = Recorder()
    train(new_model(), data, epochs=2, callbacks=[recorder])
    assert recorder.calls == [
        ("on_fit_start", (0, 2, 2, 0)),
        ("on_step_end", 1),
        ("on_step_end", 2),
        ("on_epoch_end", 1),
        ("on_step_end", 3),
        ("on_step_end", 4),
        ("on_epoch_end", 2),
        ("on_fit_end", "All 2 epochs are done."),
    ]


def test_an_own_augmentation_changes_what_the_model_sees(data):
    shapes = []

    def crop(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shapes.append(image.shape)
        return image[:16, 4:20], mask[:16, 4:20]

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        assert logits.shape == (4, 3, 16, 16) and target.shape == (4, 16, 16)
        return F.cross_entropy(logits, target, ignore_index=255, reduction="sum") * 1e-3

    train(new_model(), data, augmentation=crop, loss=loss)
    assert set(shapes) == {(40, 48, 3)} and len(shapes) >= len(data)


def test_only_the_parameters_of_an_own_optimizer_change(data):
    """Gradients of the others do not add up over the steps."""
    model = new_model()
    before = weights(model)
    train(model, data, optimizer=torch.optim.Adam(model.decoder.parameters(), 0.01), epochs=2)
    changed = {name.split(".")[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"decoder"}
    assert all(p.grad is None for p in model.parameters())


def test_frozen_parameters_and_modes_stay(data):
    model = new_model()
    model.encoder.requires_grad_(False).eval()
    before = weights(model)
    train(model, data)
    assert all(torch.equal(p, before[f"encoder.{name}"]) for name, p in model.encoder.named_parameters())
    assert not torch.equal(model.decoder.head.weight, before["decoder.head.weight"])
    assert model.decoder.training and not any(module.training for module in model.encoder.modules())


def test_pairs_give_the_weights_of_the_files_that_they_were_read_from(data, held_out):
    expected = train(new_model(classes=data.classes), data, validation=held_out, augmentation=STEPS)
    own = [
        Pairs([sample.image for sample in part], [torch.from_numpy(sample.mask).long() for sample in part])
        for part in (data, held_out)
    ]
    actual = train(new_model(classes=data.classes), own[0], validation=own[1], augmentation=STEPS)
    assert_equal(weights(actual.model), weights(expected.model))
    assert actual.best_mean_iou == expected.best_mean_iou


def test_subsets_of_the_data_are_files_with_their_classes(data):
    """Although the model's classes are only numbered. `random_split` returns such subsets, which can be split again."""
    half = Subset(data, range(4))
    result = train(new_model(), half, validation=Subset(Subset(data, range(2, 8)), range(2, 6)))
    assert result.best_epoch == 1 and result.model.classes == data.classes
    with pytest.raises(DataError, match="2 images are both trained on and held out"):
        train(new_model(), half, validation=Subset(data, range(2, 6)))
    with pytest.raises(DataError, match="contains no images"):
        train(new_model(), Subset(data, []))


def test_pairs_that_are_held_out_have_the_classes_of_the_data(make_data):
    """Not those of the model, which are only numbered and have no ignore_index."""
    data = make_data(8)
    shifted = ClassSet(data.classes.names, data.classes.palette, 254)
    files = SegmentationData(
        data.items, shifted, mask_reader=lambda path, _: read_mask(path, data.classes) // 255 * 254
    )
    pairs = [(sample.image, np.where(sample.mask == 255, 254, sample.mask)) for sample in data]
    with pytest.warns(UserWarning, match="has no pixel of b, c, d, e"):
        result = train(new_model(num_classes=5), files, validation=pairs)
    assert result.best_epoch == 1


def test_images_have_as_many_channels_as_the_model():
    noise = np.random.default_rng(0)
    images = torch.from_numpy(noise.integers(0, 256, (4, 24, 20, 5), dtype=np.uint8))
    masks = torch.from_numpy(noise.integers(0, 3, (4, 24, 20)))
    masks[:, :5] = 255  # ignored, although the class set has no ignore_index
    result = train(new_model(in_channels=5), TensorDataset(images, masks))
    assert 0 < result.history[0]["train_loss"] < 10
    with pytest.raises(OptionError, match=r"images with 3 channels, but the first of data is \(24, 20, 5\)"):
        train(new_model(), TensorDataset(images, masks))


def test_images_of_different_sizes_are_trained_together():
    sizes = [(24, 32), (32, 24), (40, 40), (8, 48)]
    pairs = Pairs([np.zeros((*size, 3), np.uint8) for size in sizes], [np.zeros(size, np.uint8) for size in sizes])
    with pytest.warns(UserWarning, match="has no pixel of class 1, class 2"):
        result = train(new_model(), pairs, validation=Pairs(pairs.images, pairs.masks))
    assert len(result.history) == 1


@pytest.mark.slow
def test_a_run_with_own_objects_resumes_bit_for_bit(data, held_out, tmp_path):
    """After an interruption in the second epoch, with new objects, as in a new process."""

    def arguments() -> dict[str, Any]:
        loss = MyLoss()
        model = new_model("fcn")  # with dropout
        optimizer = torch.optim.Adam([*model.parameters(), *loss.parameters()], 0.01)
        return {"model": model, "data": data, "validation": held_out, "loss": loss, "optimizer": optimizer}

    settings: dict[str, Any] = {"augmentation": STEPS, "schedule": lambda t: 1 - t, "ema": 0.9, "epochs": 3}
    straight = train(**arguments(), **settings)
    output = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(**arguments(), **settings, output=output, callbacks=[Recorder(fail_in_step=4)])
    recorder = Recorder()
    resumed = train(**arguments(), **settings, output=output, resume=True, callbacks=[recorder])
    assert recorder.calls[0] == ("on_fit_start", (1, 3, 2, 1))
    assert_equal(weights(resumed.model), weights(straight.model))
    losses = [[row["val_loss"] for row in result.history] for result in (straight, resumed)]
    assert losses[0] == losses[1] and len(losses[0]) == 3
    finished = train(**arguments(), **settings, output=output, resume=True)
    assert_equal(weights(finished.model), weights(straight.model))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr": 0.5}, r"lr = 0\.5 instead of 0\.001"),
        ({"loss": F.cross_entropy}, r"loss = torch\.nn\.functional\.cross_entropy instead of None"),
        ({"data": slice(4)}, "data = small data, 4 images instead of small data, 8 images"),
    ],
)
@pytest.mark.slow
def test_a_run_resumes_only_with_the_same_arguments(changed, message, make_data, tmp_path):
    small = make_data(8)
    train(new_model(num_classes=5), small, output=tmp_path / "run")
    arguments = {"model": new_model(num_classes=5), "data": small, **changed}
    if isinstance(arguments["data"], slice):
        arguments["data"] = small[arguments["data"]]
    with pytest.raises(TrainingError, match=f"other settings: {message}"):
        train(**arguments, output=tmp_path / "run", resume=True)


def test_a_run_does_not_resume_with_a_model_of_other_shapes(data, tmp_path):
    train(new_model(), data, output=tmp_path)
    with pytest.raises(TrainingError, match="had another model, whose state does not fit"):
        train(new_model(decoder_channels=(8, 8, 8, 8, 8)), data, output=tmp_path, resume=True)


def test_a_run_by_a_recipe_does_not_resume_with_objects(small, data, tmp_path):
    train_recipe(small(run={"epochs": 1}), tmp_path)
    with pytest.raises(TrainingError, match="started with other settings"):
        train(new_model(), data, output=tmp_path, resume=True)


def test_a_folder_with_a_run_is_not_overwritten(data, tmp_path):
    train(new_model(), data, output=tmp_path)
    with pytest.raises(TrainingError, match="holds a run already"):
        train(new_model(), data, output=tmp_path)


@pytest.mark.slow
def test_the_file_names_the_own_objects(data, tmp_path):
    """A recipe could not build them, so the file has none; what the model started from stays."""
    first = train(new_model(), data, output=tmp_path / "first")
    info = read_spec(first.last).info
    assert [section.title for section in sections(info)] == ["At the end of training", "Settings"]
    assert "recipe" not in info and info["trained"]["images"] == 8
    assert info["settings"]["loss"]["loss"] == "ce" and info["settings"]["run"]["epochs"] == 1
    second = train(segzoo.load(first.last), data, output=tmp_path / "second", loss=MyLoss(), auxiliary=0.1)
    info = read_spec(second.last).info
    assert info["settings"]["loss"] == {"object": f"{MyLoss.__module__}.MyLoss", "auxiliary": 0.1}
    assert info["settings"]["data"] == {"object": f"{data.title}, 8 images"}
    assert info["started_from"]["settings"]["loss"]["loss"] == "ce"
    assert second.model.spec.info == info


ARGUMENTS = [
    ({"epochs": 0}, OptionError, "^epochs must be above 0, not 0"),
    ({"epochs": None}, OptionError, "^epochs must be a whole number"),
    ({"epochs": 1.5}, OptionError, "^epochs must be a whole number"),
    ({"batch_size": 0}, OptionError, "^batch_size must be above 0"),
    ({"batch_size": 64}, DataError, "has 8 images, fewer than the batch size 64"),
    ({"lr": "high"}, OptionError, "^lr must be a number"),
    ({"lr": 0.0}, OptionError, "^lr must be above 0"),
    ({"precision": "fp8"}, SegzooError, "Unknown precision 'fp8'"),
    ({"patience": 3}, OptionError, r"^patience=3 needs a \[validation\]"),
    ({"loss": "cee"}, SegzooError, "Unknown loss 'cee'"),
    ({"loss": None}, OptionError, "^loss must be a name, a table of options or an object"),
    ({"loss": {"loss": "dice", "class_weights": "enet"}}, OptionError, "^class_weights applies to ce and focal only"),
    ({"loss": {"options": {"ce": {"weights": torch.ones(3)}}}}, OptionError, "must hold JSON values"),
    ({"loss": {"auxiliary": 0.3}, "auxiliary": 0.4}, OptionError, "^auxiliary is given twice"),
    ({"loss": lambda logits, target: 3}, OptionError, "must return a scalar tensor, not 3"),
    ({"loss": nn.CrossEntropyLoss(ignore_index=255, reduction="none")}, OptionError, "scalar tensor, not a tensor"),
    ({"loss": nn.CrossEntropyLoss()}, OptionError, "has ignore_index=-100, but unlabeled pixels of the data have 255"),
    ({"loss": F.cross_entropy}, OptionError, "The loss failed: Target 255 is out of bounds. Targets have the id 255"),
    ({"optimizer": "adamx"}, SegzooError, "Unknown optimizer 'adamx'. Did you mean 'adamw'"),
    ({"optimizer": 3}, OptionError, "^optimizer must be a name"),
    ({"optimizer": lambda parameters: None}, OptionError, "must return a torch Optimizer, not None"),
    ({"optimizer": torch.optim.SGD(nn.Conv2d(1, 1, 1).parameters())}, OptionError, "has no parameter of this model"),
    ({"schedule": lambda t: None}, OptionError, "returned None for 0"),
    ({"augmentation": [{"name": "flop"}]}, SegzooError, "Unknown .*'flop'"),
    ({"augmentation": 3}, OptionError, "^augmentation must be a table"),
    ({"augmentation": lambda image, mask: image}, OptionError, "must return"),
    ({"callbacks": Recorder()}, OptionError, "callbacks must be a list"),
    ({"callbacks": [print]}, OptionError, "callbacks must be a list"),
    ({"resume": True}, OptionError, "resume=True needs output="),
    ({"output": 3}, OptionError, "output must be a folder or None, not 3"),
    ({"accelerator": "cuba"}, SegzooError, "cuba"),
    ({"sync_batchnorm": True}, OptionError, "^sync_batchnorm needs GPUs"),
    ({"data": None}, DataError, "data must be a SegmentationData.* not NoneType"),
    ({"data": []}, DataError, "data contains no images"),
    ({"data": iter([])}, DataError, "data must be a SegmentationData"),
    ({"data": [3, 4, 5, 6]}, DataError, r"data\[0\] must be \(image, mask\), not int"),
    ({"data": [(np.zeros((3, 8, 8)), np.zeros((8, 8), int))] * 8}, DataError, "must be a uint8 image"),
    (
        {"data": [(np.zeros((8, 8, 3), np.uint8), np.full((8, 8), 7))] * 8},
        DataError,
        r"mask of data\[0\] has the id 7 .*255 is ignored",
    ),
    ({"validation": []}, DataError, "validation contains no images"),
    ({"model": None}, OptionError, "takes a model from segzoo.create or segzoo.load, not NoneType"),
    ({"model": nn.Conv2d(3, 3, 1)}, OptionError, "not Conv2d"),
]


@pytest.mark.parametrize(("changed", "error", "message"), ARGUMENTS)
def test_mistakes_are_sentences_and_nothing_is_written(changed, error, message, data, tmp_path):
    arguments = {"model": new_model(), "data": data, "output": tmp_path / "run", **changed}
    if "resume" in changed:
        del arguments["output"]
    with pytest.raises(error, match=message):
        train(**arguments)
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_the_classes_of_model_and_data_must_match(data):
    with pytest.raises(DataError, match=r"The model has 4 classes, and \S+ train has 3\. Create it with num_classes=3"):
        train(new_model(num_classes=4), data)
    other = ClassSet(("ground", "ball", "bag"), data.classes.palette, 255)
    with pytest.raises(DataError, match=r"has the class 'bag' at id 2, and \S+ train has 'box'"):
        train(new_model(classes=other), data)


def test_images_are_not_both_trained_on_and_held_out(data):
    for validation in (data, data[:3]):
        with pytest.raises(DataError, match=r"the same object|3 images are both trained on and held out"):
            train(new_model(), data, validation=validation)


def test_a_model_without_trainable_parameters_is_rejected(data):
    with pytest.raises(OptionError, match="No parameter of the model requires gradients"):
        train(new_model().requires_grad_(False), data)


def test_a_missing_extra_is_named(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(MissingPackageError, match=r"Training needs lightning_fabric.*segmentation-zoo\[train\]"):
        train(new_model(), data)


def test_objects_that_a_process_cannot_receive_are_rejected(data, monkeypatch):
    monkeypatch.setattr("torch.multiprocessing.get_start_method", lambda: "spawn")
    with pytest.raises(OptionError, match=r"cannot be sent to another process.*workers=0"):
        train(new_model(), data, augmentation=lambda image, mask: (image, mask), workers=1)


def test_a_pair_keeps_its_ids_and_the_name_of_a_sample(data):
    classes = ClassSet(data.classes.names, data.classes.palette, -1)
    masks = np.array([[[0, -1], [2, 1]]])
    mask = PairData(Pairs(np.zeros((1, 2, 2, 3), np.uint8), masks), classes)[0].mask
    assert mask.dtype == np.int32 and mask.tolist() == masks[0].tolist()
    sample = PairData([data[2]], data.classes)[0]
    assert sample.name == data[2].name and np.array_equal(sample.mask, data[2].mask)
