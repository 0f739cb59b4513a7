"""load: a key, a path, a URL, and what is none of these."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import loopback
import pytest
import torch
from loopback import Server

import segzoo
from segzoo.errors import CheckpointError, DownloadError, OptionError, UnknownNameError
from segzoo.models.base import SegmentationModel
from segzoo.weights import cache, catalog, resolve

KEY = "fcn/resnet101/coco-voc"


@pytest.fixture(autouse=True)
def _network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("segzoo.weights.download._PAUSES", (0.0,))


@pytest.fixture
def server() -> Iterator[Server]:
    with loopback.serving() as running:
        yield running


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return segzoo.save(segzoo.create("unet", encoder="test_resnet", num_classes=3), tmp_path / "small")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def entered(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Puts the entry of KEY into the catalog with other values, as if catalog.toml had them."""
    entry = catalog.Entry(**{**vars(catalog.entries()[KEY]), **changes})
    monkeypatch.setattr(catalog, "_packaged", lambda: {entry.key: entry})


# URLs


def test_a_url_with_its_sha256(server: Server, saved: Path) -> None:
    server.content = saved.read_bytes()
    url = server.on("/a%20model.safetensors?token=1", loopback.well)
    model = segzoo.load(url, sha256=sha256(saved).upper())
    assert model.config.num_classes == 3
    (kept,) = (cache.folder() / "weights").iterdir()
    assert kept.name == f"a_model-{sha256(saved)[:16]}.safetensors"


def test_a_url_without_sha256_is_refused(server: Server) -> None:
    with pytest.raises(OptionError, match=r"needs sha256=, the file's 64 digits"):
        segzoo.load(server.on("/a.safetensors", loopback.well))
    assert server.asked == []


def test_a_url_that_says_its_sha256(server: Server, saved: Path) -> None:
    server.content = saved.read_bytes()
    url = server.on("/a.safetensors", loopback.well)
    assert segzoo.load(f"{url}#sha256={sha256(saved).upper()}", sha256=sha256(saved)).config.num_classes == 3
    for fragment in ("md5=1", "sha256=1", "sha256"):
        with pytest.raises(OptionError, match="is sha256= and 64 hexadecimal digits"):
            segzoo.load(f"{url}#{fragment}")
    with pytest.raises(OptionError, match="another sha256"):
        segzoo.load(f"{url}#sha256={sha256(saved)}", sha256="0" * 64)


def test_a_page_in_the_place_of_a_file(server: Server, saved: Path) -> None:
    with pytest.raises(DownloadError, match="another file"):
        segzoo.load(server.on("/a.safetensors", loopback.shorter), sha256=sha256(saved))


def test_a_file_of_that_sha256_that_is_no_model(server: Server) -> None:
    digest = hashlib.sha256(Server.content).hexdigest()
    with pytest.raises(CheckpointError, match=r"not a whole \.safetensors"):
        segzoo.load(server.on("/a.safetensors", loopback.well), sha256=digest)


@pytest.mark.parametrize("place", ["http://example.com/a.safetensors", "http://127.0.0.2/a.safetensors"])
def test_http_is_for_this_machine(place: str) -> None:
    with pytest.raises(DownloadError, match="Use https"):
        segzoo.load(place, sha256="0" * 64)


# Paths


def test_a_path(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved.parent)
    for source in (saved, str(saved), "small.safetensors", "./small.safetensors"):
        assert resolve.locate(source).path.samefile(saved)
        assert segzoo.load(source, sha256=sha256(saved)).config.num_classes == 3
    with pytest.raises(CheckpointError, match="has not the sha256"):
        segzoo.load(saved, sha256="0" * 64)


def test_a_folder(tmp_path: Path) -> None:
    model = segzoo.create("unet", encoder="test_resnet", num_classes=3)
    path = segzoo.save(model, f"{tmp_path}/new/")
    assert path == tmp_path / "new" / "model.safetensors"
    assert sorted(p.name for p in path.parent.iterdir()) == ["README.md", "model.safetensors"]
    assert segzoo.load(tmp_path / "new").config == segzoo.load(str(tmp_path / "new")).config == model.config
    (path.parent / "README.md").write_text("mine")
    segzoo.save(model, tmp_path / "new")
    assert (path.parent / "README.md").read_text() == "mine"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Cannot write"):
        segzoo.save(segzoo.create("unet", encoder="test_resnet"), f"{tmp_path}/not/there/")


@pytest.mark.parametrize("digest", ["", "7ecb50ca", "g" * 64, 1, b"0" * 64])
def test_a_sha256_that_cannot_be(saved: Path, digest: object) -> None:
    with pytest.raises(OptionError, match="64 hexadecimal digits"):
        segzoo.load(saved, sha256=digest)


@pytest.mark.parametrize("source", [None, 3, b"a.safetensors"])
def test_what_is_no_place(source: object) -> None:
    with pytest.raises(OptionError, match="takes a key of the catalog, a path or a URL"):
        segzoo.load(source)


@pytest.mark.parametrize("source", ["s3://bucket/a.safetensors", "file:///a.safetensors", "ftp://a.org/b.pth"])
def test_schemes_that_are_not_read(source: str) -> None:
    with pytest.raises(OptionError, match="reads https:// and hf://"):
        segzoo.load(source)


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("absent.safetensors", CheckpointError, r"No file absent\.safetensors"),
        ("absent.pth", CheckpointError, "No file"),
        ("fcn/resnet101/coco_voc", UnknownNameError, "Did you mean 'fcn/resnet101/coco-voc'"),
        ("unet", UnknownNameError, "Unknown weights 'unet'.*segzoo list --weights"),
        ("small", CheckpointError, r"No file small, but there is small\.safetensors"),
        (Path(KEY), CheckpointError, "No file"),  # a path is never a key
        ("C:\\models\\a.safetensors", CheckpointError, "No file"),
    ],
)
def test_what_is_not_there(saved: Path, monkeypatch: pytest.MonkeyPatch, source, error, said: str) -> None:
    monkeypatch.chdir(saved.parent)
    with pytest.raises(error, match=said):
        segzoo.load(source)


# Keys


def test_a_key_is_fetched_from_its_mirrors(server: Server, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.content = saved.read_bytes()
    urls = (server.on("/gone", loopback.missing), server.on("/here", loopback.well))
    facts = {"sha256": sha256(saved), "size": len(server.content), "format": "segzoo"}
    entered(monkeypatch, urls=urls, **facts)
    assert segzoo.load(KEY).config.num_classes == 3
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    assert segzoo.load(KEY).config.num_classes == 3
    assert [path for path, _ in server.asked] == ["/gone", "/here"]


def test_a_key_of_a_file_in_the_package(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    monkeypatch.setattr(catalog, "WEIGHTS", saved.parent)
    entered(monkeypatch, place="package", urls=(), file=saved.name, sha256=sha256(saved), format="segzoo")
    assert segzoo.load(KEY).config.num_classes == 3
    assert not cache.folder().exists()
    saved.write_bytes(b"spoilt")
    with pytest.raises(DownloadError, match=r"damaged, or another\. Install segzoo again"):
        segzoo.load(KEY)
    saved.unlink()
    with pytest.raises(DownloadError, match=r"is missing\. Install segzoo again"):
        segzoo.load(KEY)


def test_a_key_of_a_file_in_the_repository(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a clone it loads; what is installed says where the file is, and takes it from the cache."""
    monkeypatch.setattr(catalog, "CLONE", saved.parent)
    entered(monkeypatch, place="repository", urls=(), file=saved.name, sha256=sha256(saved), format="segzoo")
    assert segzoo.load(KEY).config.num_classes == 3
    monkeypatch.setattr(catalog, "CLONE", tmp_path / "absent")
    with pytest.raises(DownloadError, match=r"in the folder weights/ of segzoo's repository.*no URL yet") as error:
        segzoo.load(KEY)
    kept = cache.place(saved.name, sha256(saved))
    assert str(kept) in str(error.value)
    kept.parent.mkdir(parents=True)
    kept.write_bytes(saved.read_bytes())
    assert segzoo.load(KEY).config.num_classes == 3
    kept.write_bytes(b"spoilt")
    with pytest.raises(DownloadError, match="Check it out, or copy it, again"):
        segzoo.load(KEY)


def test_a_converted_key_says_all_of_its_entry(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file of torchvision does not say, the catalog does."""
    asked = []

    def convert(path: Path, source: str) -> SegmentationModel:
        asked.append((path.read_bytes(), source))
        with torch.device("meta"):
            return segzoo.create("fcn", "resnet101", 21, auxiliary=True).eval()

    monkeypatch.setattr("segzoo.models.load.convert", convert)
    url = server.on("/a.pth", loopback.well)
    mean = (0.1, 0.2, 0.3)
    digest = hashlib.sha256(Server.content).hexdigest()
    entered(monkeypatch, urls=(url,), sha256=digest, size=len(Server.content), mean=mean, std=mean)
    model = segzoo.load(KEY)
    assert asked == [(Server.content, "torchvision")]
    assert model.labels == segzoo.classes.label_set("voc")
    assert (model.mean, model.std) == (mean, mean)
    assert model.config.info["metrics"] == {"mean_iou": 0.637, "pixel_accuracy": 0.919}
    assert model.config.info["key"] == KEY and "licence" in model.config.info
    assert not model.training
