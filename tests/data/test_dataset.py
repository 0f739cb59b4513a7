"""Data sets: samples are read lazily, checked, selected by name, and augmented independently of the workers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_data import random_ids, write_image, write_mask
from torch.utils.data import DataLoader

import segzoo
from segzoo.classes import ClassSet
from segzoo.data.dataset import Item, PaddedBatch, SegmentationData, TrainingSet
from segzoo.errors import DataError, ImageError, OptionError

Make = Callable[..., SegmentationData]


def test_a_sample_is_an_image_a_mask_and_a_name(make_data: Make) -> None:
    data = make_data()
    image, mask, name = data[1]
    np.testing.assert_array_equal(mask, random_ids(5, 1, ignore_index=255))
    assert (image.shape, image.dtype, mask.dtype, name) == ((12, 16, 3), np.uint8, np.uint8, "b_1")
    assert len(data) == 4 and data[-1].name == "b_3"
    assert [sample.name for sample in data] == ["a_0", "b_1", "a_2", "b_3"]


def test_samples_are_read_on_demand(make_data: Make) -> None:
    data = make_data()
    data.items[2].image.write_bytes(b"no image")
    assert data[0].name == "a_0"
    assert data[1:4].names == ("b_1", "a_2", "b_3")
    with pytest.raises(ImageError, match=r"2\.png"):
        data[2]


def test_samples_are_writable(make_data: Make) -> None:
    image, mask, _ = make_data()[0]
    image[:], mask[:] = 1, 2
    assert make_data()[0].image.max() > 1


@pytest.mark.parametrize(
    ("select", "exclude", "names"),
    [
        ("a_*", (), ("a_0", "a_2")),
        ((), "a_*", ("b_1", "b_3")),
        (("a_0", "b_?"), "*3", ("a_0", "b_1")),
        ((), (), ("a_0", "b_1", "a_2", "b_3")),
    ],
)
def test_patterns_select_by_name(make_data: Make, select: Any, exclude: Any, names: tuple[str, ...]) -> None:
    assert make_data().select(select, exclude).names == names


@pytest.mark.parametrize(
    ("select", "exclude", "message"),
    [
        ("c*", (), r"No image of small data matches 'c\*'\. Names look like 'a_0' and 'b_3'"),
        ((), "A_*", r"matches 'A_\*'"),
        ("a_*", "*", "No image of small data is left"),
    ],
)
def test_a_pattern_that_selects_nothing_is_an_error(make_data: Make, select: Any, exclude: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_data().select(select, exclude)


def test_patterns_are_strings(make_data: Make) -> None:
    with pytest.raises(OptionError, match="select takes patterns"):
        make_data().select([1])  # type: ignore[list-item]


@pytest.mark.parametrize(("wrong", "position"), [(5, "row 3, column 4"), (254, "row 3, column 4")])
def test_an_id_outside_the_class_set_is_reported_with_file_and_id(make_data: Make, wrong: int, position: str) -> None:
    data = make_data()
    ids = random_ids(5, 0, ignore_index=255)
    ids[3, 4] = wrong
    write_mask(data.items[0].mask, ids)
    with pytest.raises(DataError, match=rf"0-mask\.png has the id {wrong} in {position}; the classes are 0-4, and 255"):
        data[0]


def test_without_an_ignored_id_every_pixel_needs_a_class(make_data: Make) -> None:
    data = make_data()
    with pytest.raises(DataError, match=r"has the id 255 .* and no id is ignored"):
        SegmentationData(data.items, ClassSet.generic(5))[0]


def test_a_mask_of_another_size_is_refused(make_data: Make) -> None:
    data = make_data()
    write_mask(data.items[0].mask, random_ids(5, 0, (12, 15)))
    with pytest.raises(DataError, match=r"0-mask\.png is 15 x 12, but its image .*0\.png is 16 x 12"):
        data[0]


def test_data_needs_items_with_unique_names(make_data: Make) -> None:
    items = make_data().items
    with pytest.raises(DataError, match="nothing contains no images"):
        SegmentationData([], ClassSet.generic(2), "nothing")
    with pytest.raises(DataError, match="two images named 'a_0'"):
        SegmentationData([*items, items[0]], ClassSet.generic(2))


@pytest.mark.parametrize(
    ("num_classes", "ignore_index", "filled", "dtype"),
    [(5, 5, 5, np.uint8), (5, None, 255, np.uint8), (256, None, -1, np.int32), (5, -1, -1, np.int32)],
)
def test_data_always_has_an_ignore_index(
    tmp_path: Path, num_classes: int, ignore_index: int | None, filled: int, dtype: type
) -> None:
    write_image(tmp_path / "a.png")
    write_mask(tmp_path / "b.png", random_ids(5))
    generic = ClassSet.generic(num_classes)
    classes = ClassSet(generic.names, generic.palette, ignore_index)
    data = SegmentationData([Item("a", tmp_path / "a.png", tmp_path / "b.png")], classes)
    assert data.ignore_index == filled
    assert data[0].mask.dtype == dtype


def jittered(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Adds random numbers of torch's generator, so that no two draws are equal."""
    return (image // 2 + torch.randint(0, 100, image.shape, dtype=torch.uint8).numpy()).astype(np.uint8), mask


def images(loader: DataLoader[dict[str, Any]]) -> torch.Tensor:
    return torch.cat([batch["image"] for batch in loader])


def test_random_numbers_do_not_depend_on_the_workers(make_data: Make) -> None:
    training = TrainingSet(make_data(), jittered, seed=3)
    alone, again, other = DataLoader(training, 2), DataLoader(training, 4), TrainingSet(make_data(), jittered, seed=4)
    workers = DataLoader(training, 1, num_workers=2, persistent_workers=True)
    first = images(alone)
    assert torch.equal(first, images(again)) and torch.equal(first, images(workers))
    assert not torch.equal(first, images(DataLoader(other, 2)))
    training.set_epoch(1)
    second = images(alone)
    assert not torch.equal(first, second)
    # The workers have been running since the first epoch.
    assert torch.equal(second, images(workers))


def test_augmentation_does_not_change_the_global_generator(make_data: Make) -> None:
    before = torch.get_rng_state()
    TrainingSet(make_data(), jittered)[0]
    assert torch.equal(before, torch.get_rng_state())


def test_a_model_accepts_batches(make_data: Make) -> None:
    batch = next(iter(DataLoader(TrainingSet(make_data()), 4)))
    model = segzoo.create("fcn", "test_resnet", num_classes=5)
    assert model(model.normalize(batch["image"])).shape == (4, 5, 12, 16)
    assert batch["mask"].shape == (4, 12, 16)
    assert batch["name"] == ["a_0", "b_1", "a_2", "b_3"]


def test_a_callable_may_change_the_size_and_flip(make_data: Make) -> None:
    data = make_data()
    sample = TrainingSet(data, lambda image, mask: (image[:5, ::-1], mask[:5, ::-1]))[0]
    np.testing.assert_array_equal(sample["image"].numpy(), data[0].image[:5, ::-1])
    np.testing.assert_array_equal(sample["mask"].numpy(), data[0].mask[:5, ::-1])


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (lambda image, mask: image, r"must return \(image, mask\)"),
        (lambda image, mask: (image / 255, mask), r"not float64 \(12, 16, 3\) and uint8 \(12, 16\)"),
        (lambda image, mask: (image[:3], mask), r"not uint8 \(3, 16, 3\) and uint8 \(12, 16\)"),
        (lambda image, mask: (image, mask / 2), "float64"),
    ],
)
def test_the_result_of_a_callable_is_checked(make_data: Make, augment: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        TrainingSet(make_data(), augment)[0]


def test_batches_contain_pixel_weights(make_data: Make) -> None:
    training = TrainingSet(make_data(), pixel_weights=lambda mask: (mask == 255).astype(np.float32))
    batch = next(iter(DataLoader(training, 2)))
    assert torch.equal(batch["weights"], (batch["mask"] == 255).float())


def test_images_of_different_sizes_are_padded_to_the_largest() -> None:
    samples = [
        {"image": torch.ones(2, 4, 3, dtype=torch.uint8), "mask": torch.ones(2, 4, dtype=torch.uint8), "name": "a"},
        {"image": torch.ones(3, 3, 3, dtype=torch.uint8), "mask": torch.ones(3, 3, dtype=torch.uint8), "name": "b"},
    ]
    batch = PaddedBatch(255)(samples)
    assert batch["image"].shape == (2, 3, 4, 3) and batch["mask"].shape == (2, 3, 4) and batch["name"] == ["a", "b"]
    assert batch["mask"].tolist()[0] == [[1] * 4, [1] * 4, [255] * 4]
    assert batch["mask"].tolist()[1] == [[1, 1, 1, 255]] * 3
    assert batch["image"].sum() == 3 * (8 + 9)


def test_samples_are_taken_by_index(make_data: Make) -> None:
    data = make_data()
    assert data.take([3, 0]).names == ("b_3", "a_0")
    with pytest.raises(DataError, match="two images named 'a_0'"):
        data.take([0, 0])
    with pytest.raises(DataError, match="contains no images"):
        data.take([])
