"""Sources that `load` accepts (a key, a path, a URL) and sources that it rejects."""

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


def change_entry(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Changes fields of the entry of KEY, as if catalog.toml had these values."""
    local = changes.pop("urls") if changes.get("urls") else None
    entry = catalog.Entry(**{**vars(catalog.entries()[KEY]), **changes})
    if local:
        object.__setattr__(entry, "urls", local)  # an entry takes https only, which the local server does not speak
    monkeypatch.setattr(catalog, "_packaged", lambda: {entry.key: entry})


# URLs


def test_a_url_with_its_sha256(server: Server, saved: Path) -> None:
    server.content = saved.read_bytes()
    url = server.on("/a%20model.safetensors?token=1", loopback.well)
    model = segzoo.load(url, sha256=sha256(saved).upper())
    assert model.spec.num_classes == 3
    (cached,) = (cache.folder() / "weights").iterdir()
    assert cached.name == f"a_model-{sha256(saved)[:16]}.safetensors"


def test_a_url_without_sha256_is_rejected(server: Server) -> None:
    with pytest.raises(OptionError, match=r"needs sha256=, the file's 64 digits"):
        segzoo.load(server.on("/a.safetensors", loopback.well))
    assert server.asked == []


def test_a_url_with_a_sha256_fragment(server: Server, saved: Path) -> None:
    server.content = saved.read_bytes()
    url = server.on("/a.safetensors", loopback.well)
    assert segzoo.load(f"{url}#sha256={sha256(saved).upper()}", sha256=sha256(saved)).spec.num_classes == 3
    for fragment in ("md5=1", "sha256=1", "sha256"):
        with pytest.raises(OptionError, match="must have sha256= and 64 hexadecimal digits"):
            segzoo.load(f"{url}#{fragment}")
    with pytest.raises(OptionError, match="another sha256"):
        segzoo.load(f"{url}#sha256={sha256(saved)}", sha256="0" * 64)


def test_a_web_page_instead_of_the_file(server: Server, saved: Path) -> None:
    with pytest.raises(DownloadError, match="another file"):
        segzoo.load(server.on("/a.safetensors", loopback.shorter), sha256=sha256(saved))


def test_a_file_with_that_sha256_that_is_not_a_checkpoint(server: Server) -> None:
    digest = hashlib.sha256(Server.content).hexdigest()
    with pytest.raises(CheckpointError, match=r"not a complete \.safetensors"):
        segzoo.load(server.on("/a.safetensors", loopback.well), sha256=digest)


@pytest.mark.parametrize("source", ["http://example.com/a.safetensors", "http://127.0.0.2/a.safetensors"])
def test_http_is_only_for_this_machine(source: str) -> None:
    with pytest.raises(DownloadError, match="Use https"):
        segzoo.load(source, sha256="0" * 64)


# Paths


def test_a_path(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved.parent)
    for source in (saved, str(saved), "small.safetensors", "./small.safetensors"):
        assert resolve.locate(source).path.samefile(saved)
        assert segzoo.load(source, sha256=sha256(saved)).spec.num_classes == 3
    with pytest.raises(CheckpointError, match="does not have the sha256"):
        segzoo.load(saved, sha256="0" * 64)


def test_a_folder(tmp_path: Path) -> None:
    model = segzoo.create("unet", encoder="test_resnet", num_classes=3)
    path = segzoo.save(model, f"{tmp_path}/new/")
    assert path == tmp_path / "new" / "model.safetensors"
    assert sorted(file.name for file in path.parent.iterdir()) == ["README.md", "model.safetensors"]
    assert segzoo.load(tmp_path / "new").spec == segzoo.load(str(tmp_path / "new")).spec == model.spec
    (path.parent / "README.md").write_text("mine")
    segzoo.save(model, tmp_path / "new")
    assert (path.parent / "README.md").read_text() == "mine"


def test_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Cannot write"):
        segzoo.save(segzoo.create("unet", encoder="test_resnet"), f"{tmp_path}/absent/folder/")


@pytest.mark.parametrize("digest", ["", "7ecb50ca", "g" * 64, 1, b"0" * 64])
def test_an_invalid_sha256(saved: Path, digest: object) -> None:
    with pytest.raises(OptionError, match="64 hexadecimal digits"):
        segzoo.load(saved, sha256=digest)


@pytest.mark.parametrize("source", [None, 3, b"a.safetensors"])
def test_a_source_of_the_wrong_type(source: object) -> None:
    with pytest.raises(OptionError, match="takes a catalog key, a path or a URL"):
        segzoo.load(source)


@pytest.mark.parametrize("source", ["s3://bucket/a.safetensors", "file:///a.safetensors", "ftp://a.org/b.pth"])
def test_unsupported_schemes(source: str) -> None:
    with pytest.raises(OptionError, match="reads https:// and hf://"):
        segzoo.load(source)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("absent.safetensors", CheckpointError, r"No file absent\.safetensors"),
        ("absent.pth", CheckpointError, "No file"),
        ("fcn/resnet101/coco_voc", UnknownNameError, "Did you mean 'fcn/resnet101/coco-voc'"),
        ("unet", UnknownNameError, "Unknown weights 'unet'.*segzoo list --weights"),
        ("small", CheckpointError, r"No file small, but there is small\.safetensors"),
        (Path(KEY), CheckpointError, "No file"),  # a Path is never a key
        ("C:\\models\\a.safetensors", CheckpointError, "No file"),
    ],
)
def test_missing_files_and_unknown_keys(saved: Path, monkeypatch: pytest.MonkeyPatch, source, error, message) -> None:
    monkeypatch.chdir(saved.parent)
    with pytest.raises(error, match=message):
        segzoo.load(source)


# Keys


def test_a_key_is_downloaded_from_its_mirrors(server: Server, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.content = saved.read_bytes()
    urls = (server.on("/gone", loopback.missing), server.on("/good", loopback.well))
    changes = {"sha256": sha256(saved), "size": len(server.content), "format": "segzoo"}
    change_entry(monkeypatch, urls=urls, **changes)
    assert segzoo.load(KEY).spec.num_classes == 3
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    assert segzoo.load(KEY).spec.num_classes == 3
    assert [path for path, _ in server.asked] == ["/gone", "/good"]


def test_a_key_of_a_file_in_the_package(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    monkeypatch.setattr(catalog, "WEIGHTS", saved.parent)
    change_entry(monkeypatch, source="package", urls=(), file=saved.name, sha256=sha256(saved), format="segzoo")
    assert segzoo.load(KEY).spec.num_classes == 3
    assert not cache.folder().exists()
    saved.write_bytes(b"damaged")
    with pytest.raises(DownloadError, match=r"damaged, or another file\. Reinstall segmentation-zoo"):
        segzoo.load(KEY)
    saved.unlink()
    with pytest.raises(DownloadError, match=r"is missing\. It ships with segmentation-zoo: install or reinstall"):
        segzoo.load(KEY)


def test_a_key_names_the_exported_file_for_a_predictor(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    monkeypatch.setattr(catalog, "WEIGHTS", saved.parent)
    graph = saved.with_suffix(".onnx")
    graph.write_bytes(b"a graph")
    exported = catalog.Exported(graph.name, sha256(graph), graph.stat().st_size)
    change_entry(monkeypatch, source="package", urls=(), file=saved.name, sha256=sha256(saved), exported=exported)
    assert resolve.locate(KEY).path == saved
    assert resolve.locate(KEY, exported=True) == resolve.Located(graph, "segzoo", catalog.entries()[KEY])
    assert resolve.locate(saved, exported=True).path == saved
    graph.write_bytes(b"another")
    with pytest.raises(DownloadError, match=r"damaged, or another file\. Reinstall segmentation-zoo-runtime"):
        resolve.locate(KEY, exported=True)
    graph.unlink()
    with pytest.raises(DownloadError, match=r"small\.onnx, which .* is missing\. Reinstall segmentation-zoo-runtime"):
        resolve.locate(KEY, exported=True)


def test_a_key_of_a_file_in_the_repository(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone loads it; an installed package names the cache path, and loads the file once it is there."""
    monkeypatch.setattr(catalog, "CLONE", saved.parent)
    change_entry(monkeypatch, source="repository", urls=(), file=saved.name, sha256=sha256(saved), format="segzoo")
    assert segzoo.load(KEY).spec.num_classes == 3
    monkeypatch.setattr(catalog, "CLONE", tmp_path / "absent")
    with pytest.raises(DownloadError, match=r"in the folder weights/ of segzoo's repository.*no URL yet") as error:
        segzoo.load(KEY)
    cached = cache.path_for(saved.name, sha256(saved))
    assert str(cached) in str(error.value)
    cached.parent.mkdir(parents=True)
    cached.write_bytes(saved.read_bytes())
    assert segzoo.load(KEY).spec.num_classes == 3
    cached.write_bytes(b"damaged")
    with pytest.raises(DownloadError, match="Check it out or copy it again"):
        segzoo.load(KEY)


def test_a_converted_model_gets_the_metadata_of_its_entry(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's file has no classes, normalization or license; the catalog provides them."""
    calls = []

    def convert(path: Path, source: str) -> SegmentationModel:
        calls.append((path.read_bytes(), source))
        with torch.device("meta"):
            return segzoo.create("fcn", "resnet101", 21, auxiliary=True).eval()

    monkeypatch.setattr("segzoo.models.load.convert", convert)
    url = server.on("/a.pth", loopback.well)
    mean = (0.1, 0.2, 0.3)
    digest = hashlib.sha256(Server.content).hexdigest()
    change_entry(monkeypatch, urls=(url,), sha256=digest, size=len(Server.content), mean=mean, std=mean)
    model = segzoo.load(KEY)
    assert calls == [(Server.content, "torchvision")]
    assert model.classes == segzoo.classes.class_set("voc")
    assert (model.spec.mean, model.spec.std) == (mean, mean)
    assert model.spec.info["metrics"] == {"mean_iou": 0.637, "pixel_accuracy": 0.919}
    assert model.spec.info["key"] == KEY and "license" in model.spec.info
    assert not model.training


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("fcn/resnet50/coco-voc", "key"),
        (Path("fcn/resnet50/coco-voc"), "path"),
        ("hf://jane/street", "hub"),
        ("https://example.org/a.safetensors#sha256=0", "url"),
        ("ftp://example.org/a", "url"),
        ("street.onnx", "path"),
        ("STREET.SAFETENSORS", "path"),
        (".", "path"),
        ("unet", "architecture"),
        ("paper/segnet", "architecture"),
        ("unte", "unknown"),
    ],
)
def test_a_word_has_one_meaning(word: str | Path, meaning: str) -> None:
    assert resolve.resolve(word) == meaning


def test_an_architecture_has_no_weights() -> None:
    with pytest.raises(UnknownNameError, match=r"'unet' is an architecture without weights: segzoo\.create\('unet'\)"):
        resolve.locate("unet")


def test_a_missing_file_suggests_similar_ones(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved.parent)
    for missing in ("smal.safetensors", "small.safetensor", "./SMALL.safetensor"):
        with pytest.raises(CheckpointError, match=r"o file .*\. Did you mean 'small\.safetensors'\?"):
            segzoo.load(missing)
    with pytest.raises(CheckpointError, match=r"There is no file xyz\.abcde\. Models end in"):
        segzoo.load("xyz.abcde")
