"""The errors of segzoo: one base class, and suggestions of similar names."""

import pytest

from segzoo import errors

NAMES = ("resnet18", "resnet101", "vgg16", "vgg16_bn")


@pytest.mark.parametrize(
    "name",
    [
        "UnknownNameError",
        "PairingError",
        "ImageError",
        "DataError",
        "CheckpointError",
        "DownloadError",
        "ExportError",
        "TrainingError",
        "MissingPackageError",
    ],
)
def test_one_except_catches_them_all(name: str) -> None:
    assert issubclass(getattr(errors, name), errors.SegzooError)


@pytest.mark.parametrize("error", [errors.UnknownNameError, errors.PairingError, errors.ImageError, errors.DataError])
def test_errors_about_arguments_are_value_errors_too(error: type[Exception]) -> None:
    assert issubclass(error, ValueError)


def test_a_missing_device_is_not_a_value_error() -> None:
    assert issubclass(errors.DeviceError, errors.SegzooError)
    assert not issubclass(errors.DeviceError, ValueError)


@pytest.mark.parametrize(("wrong", "right"), [("resnet1O1", "resnet101"), ("VGG16", "vgg16"), ("vgg16bn", "vgg16_bn")])
def test_similar_names_are_suggested(wrong: str, right: str) -> None:
    message = str(errors.unknown("encoder", wrong, NAMES, "See there."))
    assert message.startswith(f"Unknown encoder {wrong!r}. Did you mean '")
    assert repr(right) in message
    assert message.endswith("? See there.")


def test_nothing_is_suggested_for_a_name_unlike_all_others() -> None:
    assert str(errors.unknown("encoder", "qqq", NAMES, "See there.")) == "Unknown encoder 'qqq'. See there."


def test_a_long_list_is_shortened_and_counted() -> None:
    assert errors.some(list("abc"), 3) == "a, b, c"
    assert errors.some(list("abcde"), 3) == "a, b, c and 2 more"


def test_similar_names_keep_their_case_and_are_at_most_three() -> None:
    assert errors.similar("ONE.jpg", ["One.JPG", "two.png"]) == ["One.JPG"]
    assert len(errors.similar("class", [f"class{i}" for i in range(9)])) == 3
    assert errors.did_you_mean([]) == ""
    assert errors.did_you_mean(["a", "b"]) == " Did you mean 'a' or 'b'?"
