"""push and hf://, against a fake hub."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import hub_stand_in
import huggingface_hub
import numpy as np
import onnx
import pytest
import torch
from hub_stand_in import Hub, Repository
from huggingface_hub import ModelCard
from typer.testing import CliRunner

import segzoo
from segzoo.cli import app
from segzoo.errors import CheckpointError, DownloadError, MissingPackageError, OptionError, SegzooError, UploadError
from segzoo.models.base import SegmentationModel
from segzoo.models.parameters import weights_sha256
from segzoo.spec import ExportSpec
from segzoo.weights import cache

# huggingface_hub itself sends large files like this if the hub takes them by HTTP.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_stand_in.serving() as running:
        monkeypatch.setenv("SEGZOO_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", hub_stand_in.TOKEN)
        monkeypatch.delenv("HF_HUB_OFFLINE")
        # huggingface_hub reads HF_ENDPOINT and similar variables into these at import.
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield running


def small(classes: int = 3) -> SegmentationModel:
    model = segzoo.create("unet", encoder="test_resnet", num_classes=classes)
    return model.with_info(license="MIT", metrics={"mean_iou": 0.5}, data="nothing").eval()


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    tensors = second.state_dict()
    return all(torch.equal(tensor, tensors[name]) for name, tensor in first.state_dict().items())


def graph(path: Path, model: SegmentationModel, **changes: object) -> Path:
    """An .onnx file with the metadata of an export. Its graph is an argmax over the image's channels."""
    helper = onnx.helper
    image = helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["batch", "height", "width", 3])
    mask = helper.make_tensor_value_info("mask", onnx.TensorProto.UINT8, ["batch", "height", "width"])
    nodes = [
        helper.make_node("ArgMax", ["image"], ["largest"], axis=3, keepdims=0),
        helper.make_node("Cast", ["largest"], ["mask"], to=onnx.TensorProto.UINT8),
    ]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", [image], [mask]), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    export = ExportSpec(**{"weights_sha256": weights_sha256(model), **changes})
    helper.set_model_props(proto, model.spec.to_metadata() | export.to_metadata())
    onnx.save(proto, path)
    return path


# push and load


def test_a_pushed_model_is_loaded(hub: Hub) -> None:
    model = small()
    address = segzoo.push(model, "jane/street")
    (oid,) = hub.repositories["jane/street"].commits
    assert address == f"hf://jane/street@{oid}"
    assert set(hub.repositories["jane/street"].files) == {"model.safetensors", "README.md", "config.json"}
    for source in ("hf://jane/street", address, "hf://jane/street@main/model.safetensors"):
        again = segzoo.load(source)
        assert same(model, again) and again.spec.to_dict() == model.spec.to_dict() and not again.training


def test_an_address_with_a_commit_loads_that_commit(hub: Hub) -> None:
    first, second = small(), small()
    address = segzoo.push(first, "jane/street")
    assert segzoo.push(second, "jane/street") != address
    assert same(segzoo.load(address), first) and same(segzoo.load("hf://jane/street"), second)


def test_a_file_is_pushed_and_a_folder_with_its_own_card(hub: Hub, tmp_path: Path) -> None:
    model = small()
    segzoo.push(segzoo.save(model, tmp_path / "m"), "jane/file")
    assert same(segzoo.load("hf://jane/file"), model)
    segzoo.save(model, f"{tmp_path}/folder/")
    (tmp_path / "folder" / "README.md").write_text("---\nlicense: mit\n---\nMine.\n")
    segzoo.push(tmp_path / "folder", "jane/folder")
    assert hub.repositories["jane/folder"].files["README.md"] == b"---\nlicense: mit\n---\nMine.\n"


def test_a_pushed_model_names_no_folder_of_this_machine(hub: Hub) -> None:
    recipe = {
        "data": {"name": "voc", "root": "/home/jane/VOC"},
        "model": {"init_from": "/home/jane/runs/a.safetensors"},
    }
    model = small().with_info(recipe=recipe)
    loaded = segzoo.load(segzoo.push(model, "jane/street"))
    files = hub.repositories["jane/street"].files
    assert all(b"/home/jane" not in content and b"runs" not in content for content in files.values())
    assert loaded.spec.info["recipe"]["model"]["init_from"] == "a.safetensors"
    assert model.spec.info["recipe"] == recipe and same(loaded, model)


def test_without_huggingface_hub_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackageError, match=r"hf://jane/street needs .*segmentation-zoo-runtime\[hub\]"):
        segzoo.load("hf://jane/street")


def test_another_file_of_a_repository(hub: Hub, tmp_path: Path) -> None:
    content = segzoo.save(small(), tmp_path / "m").read_bytes()
    hub.repositories["jane/many"] = Repository()
    hub.repositories["jane/many"].commit({"sub/five.safetensors": content})
    assert segzoo.load("hf://jane/many/sub/five.safetensors").spec.num_classes == 3
    with pytest.raises(DownloadError, match=r"has no file 'model\.safetensors'.*hf://owner/repo/FILE"):
        segzoo.load("hf://jane/many")


def test_a_private_repository(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    segzoo.push(small(), "jane/secret", private=True)
    assert hub.repositories["jane/secret"].private
    segzoo.push(small(), "jane/secret", private=True)
    segzoo.load("hf://jane/secret")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("SEGZOO_CACHE", str(cache.folder().with_name("another")))
    with pytest.raises(DownloadError, match=r"no repository 'jane/secret', or it is private.* `hf auth login`"):
        segzoo.load("hf://jane/secret")


def test_a_private_model_is_not_pushed_to_a_public_repository(hub: Hub) -> None:
    hub.repositories["jane/open"] = Repository()
    with pytest.raises(UploadError, match="jane/open is public already"):
        segzoo.push(small(), "jane/open", private=True)
    assert hub.repositories["jane/open"].commits == {}


# Downloads, which the hub counts by requests for config.json


def counted(hub: Hub) -> list[str]:
    """The requests for config.json since the last call."""
    requests = [request for request in hub.asked if request.endswith("/config.json")]
    hub.asked.clear()
    return requests


def test_a_download_is_counted_once(hub: Hub) -> None:
    address = segzoo.push(small(), "jane/street")
    hub.asked.clear()
    segzoo.load("hf://jane/street")
    assert counted(hub) == ["HEAD /jane/street/resolve/main/config.json"]
    segzoo.load("hf://jane/street")
    assert counted(hub) == []
    segzoo.load(address)
    assert hub.asked == []
    again = segzoo.push(small(), "jane/street")
    segzoo.load(again)
    assert counted(hub) == [f"HEAD /jane/street/resolve/{again.partition('@')[2]}/config.json"]


def test_the_download_of_an_exported_file_is_counted(hub: Hub, tmp_path: Path) -> None:
    model = small()
    segzoo.push(model, "jane/street", onnx=graph(tmp_path / "g.onnx", model))
    hub.asked.clear()
    segzoo.Predictor("hf://jane/street/model.onnx", "cpu")
    assert counted(hub) == ["HEAD /jane/street/resolve/main/config.json"]


@pytest.mark.parametrize("trouble", ["no config.json", "fails to count"])
def test_a_download_that_cannot_be_counted_is_loaded(hub: Hub, trouble: str) -> None:
    model = small()
    segzoo.push(model, "jane/street")
    if trouble == "no config.json":
        del hub.repositories["jane/street"].files["config.json"]
    hub.trouble = trouble
    hub.asked.clear()
    assert same(segzoo.load("hf://jane/street"), model)
    assert len(counted(hub)) == 1


def test_a_failed_download_is_not_counted(hub: Hub) -> None:
    segzoo.push(small(), "jane/street")
    hub.trouble = "another file"
    hub.asked.clear()
    with pytest.raises(DownloadError):
        segzoo.load("hf://jane/street")
    assert counted(hub) == []


def test_config_json_describes_the_model(hub: Hub, tmp_path: Path) -> None:
    model = segzoo.create("unet", encoder="test_resnet", classes="camvid", upsample="bilinear")
    model.with_info(trained={"data": str(tmp_path)})
    segzoo.push(segzoo.save(model, tmp_path / "m"), "jane/street")
    text = hub.repositories["jane/street"].files["config.json"].decode()
    config = json.loads(text)
    assert config["library_name"] == "segzoo" and config["num_classes"] == len(config["id2label"]) == 11
    assert config["decoder"] == "unet" and config["encoder"] == "test_resnet"
    assert config["ignore_index"] == model.classes.ignore_index == 11
    assert config["options"] == {"upsample": "bilinear"} and config["mean"] == list(model.spec.mean)
    assert config["id2label"] == {str(index): name for index, name in enumerate(model.classes.names)}
    assert str(tmp_path) not in text


# The card


def test_the_hub_accepts_the_card(hub: Hub, tmp_path: Path) -> None:
    model = small()
    segzoo.push(model, "jane/street", onnx=graph(tmp_path / "g.onnx", model))
    card = ModelCard(hub.repositories["jane/street"].files["README.md"].decode())
    assert card.data.to_dict() == {
        "library_name": "segzoo",
        "pipeline_tag": "image-segmentation",
        "license": "mit",
        "tags": ["segzoo", "semantic-segmentation", "unet", "test_resnet", "onnx"],
    }
    for text in ('segzoo.load("hf://jane/street")', "| mean IoU | 50.00 % |", "| 1 | class 1 |", "MIT", "model.onnx"):
        assert text in card.text
    assert "/tmp" not in card.text and str(tmp_path) not in card.text


def test_the_cards_code_runs(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / "street.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    model = small()
    segzoo.push(model, "jane/street", onnx=graph(tmp_path / "g.onnx", model))
    text = hub.repositories["jane/street"].files["README.md"].decode()
    blocks = [block.partition("```")[0] for block in text.split("```python\n")[1:]]
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block, shape in zip(blocks, [(20, 30), (20, 30), (1, 20, 30)], strict=True):
        exec(block.replace("street.jpg", "street.png").replace('device="auto"', 'device="cpu"'), names)
        assert names.pop("mask").shape == shape


# Errors


@pytest.mark.parametrize(
    "repo",
    ["street", "jane/../street", "jane/street/more", "/street", "jane/", "../jane/street", "jane/a--b", "a b/c"],
)
def test_invalid_names_of_repositories(hub: Hub, repo: str) -> None:
    with pytest.raises(OptionError, match="is not a valid repository name"):
        segzoo.push(small(), repo)
    assert hub.asked == []


@pytest.mark.parametrize(
    "source",
    [
        "hf://jane",
        "hf://",
        "hf:///street",
        "hf://jane/street/../../../etc/passwd",
        "hf://jane/street/..",
        "hf://jane/street//etc/passwd",
        "hf://jane/street/a\\..\\b",
        "hf://jane/street/C:/a",
        "hf://jane/street/",
        "hf://jane/street@/model.safetensors",
        "hf://jane/street@..%2F..%2Fetc/model.safetensors",
        "hf://jane/street@a@b",
        "hf://../street",
        "hf://jane/..",
        "hf://jane/street\n",
    ],
)
def test_invalid_addresses(hub: Hub, source: str) -> None:
    with pytest.raises(OptionError, match=r"not of the form|leaves its repository|not a valid repository name"):
        segzoo.load(source)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda hub: hub.repositories.clear(), "no repository 'jane/street', or it is private"),
        (lambda hub: setattr(hub.repositories["jane/street"], "gated", True), "access is gated"),
        (lambda hub: setattr(hub, "trouble", "another file"), "did not have the hub's sha256"),
    ],
)
def test_failed_downloads(hub: Hub, spoil, message: str) -> None:
    segzoo.push(small(), "jane/street")
    spoil(hub)
    with pytest.raises(DownloadError, match=message):
        segzoo.load("hf://jane/street")
    assert not list(cache.folder().rglob("*.safetensors"))


def test_a_missing_revision(hub: Hub) -> None:
    segzoo.push(small(), "jane/street")
    with pytest.raises(DownloadError, match="no branch, tag or commit 'v2'"):
        segzoo.load("hf://jane/street@v2")


def test_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    segzoo.push(model, "jane/street")
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    with pytest.raises(DownloadError, match="not in the cache and SEGZOO_OFFLINE=1"):
        segzoo.load("hf://jane/street")
    with pytest.raises(UploadError, match="SEGZOO_OFFLINE=1 forbids network access"):
        segzoo.push(model, "jane/other")
    monkeypatch.delenv("SEGZOO_OFFLINE")
    segzoo.load("hf://jane/street")
    hub.shutdown()
    hub.server_close()
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    assert same(segzoo.load("hf://jane/street"), model)


def test_a_damaged_file_in_the_cache_is_detected(hub: Hub) -> None:
    segzoo.push(small(), "jane/street")
    segzoo.load("hf://jane/street")
    (cached,) = cache.folder().rglob("model.safetensors")
    blob = cached.resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(DownloadError, match="Load it again"):
        segzoo.load("hf://jane/street")
    segzoo.load("hf://jane/street")


def test_a_file_in_the_store_that_repositories_share_is_compared_too(hub: Hub) -> None:
    """huggingface_hub moves files from Xet there. Their names are not their sha256."""
    segzoo.push(small(), "jane/street")
    segzoo.load("hf://jane/street")
    (cached,) = cache.folder().rglob("model.safetensors")
    blob = cached.resolve()
    shared = cache.folder() / "hub" / "blobs" / "aa" / ("a" * 64)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(shared)
    segzoo.load("hf://jane/street")
    assert shared.exists()
    shared.write_bytes(shared.read_bytes()[:-1] + b"x")
    with pytest.raises(DownloadError, match="Load it again"):
        segzoo.load("hf://jane/street")
    segzoo.load("hf://jane/street")


def test_the_sha256_of_a_file_on_the_hub_is_checked(hub: Hub) -> None:
    segzoo.push(small(), "jane/street")
    with pytest.raises(CheckpointError, match="does not have the sha256"):
        segzoo.load("hf://jane/street", sha256="0" * 64)


def test_a_push_without_write_access_fails(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(UploadError, match=r"no write access to jane/street on the hub\. Use `hf auth login`"):
        segzoo.push(small(), "jane/street")
    assert hub.repositories == {}


@pytest.mark.parametrize(("trouble", "message"), [("forbids", "no write access"), ("breaks", "cannot be made")])
def test_a_failed_push_leaves_no_commit(hub: Hub, trouble: str, message: str) -> None:
    hub.trouble = trouble
    with pytest.raises(UploadError, match=message):
        segzoo.push(small(), "jane/street")
    assert all(not repository.commits for repository in hub.repositories.values())


def test_an_onnx_file_of_other_weights_is_not_pushed(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(UploadError, match="exported from other weights"):
        segzoo.push(small(), "jane/street", onnx=graph(tmp_path / "g.onnx", small()))
    (tmp_path / "no.onnx").write_bytes(b"not at all")
    with pytest.raises(UploadError, match="not a complete"):
        segzoo.push(small(), "jane/street", onnx=tmp_path / "no.onnx")
    with pytest.raises(UploadError, match=r"Cannot read .*missing\.onnx"):
        segzoo.push(small(), "jane/street", onnx=tmp_path / "missing.onnx")
    bare = onnx.load(graph(tmp_path / "g.onnx", small()))
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "g.onnx")
    with pytest.raises(UploadError, match="not written by"):
        segzoo.push(small(), "jane/street", onnx=tmp_path / "g.onnx")
    assert hub.asked == []


def test_a_file_without_a_model_is_not_pushed(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(SegzooError, match="not a complete"):
        segzoo.push(tmp_path / "a.safetensors", "jane/street")
    assert hub.asked == []


# The command line


def test_the_command_pushes(hub: Hub, tmp_path: Path) -> None:
    model = small()
    path = segzoo.save(model, tmp_path / "m")
    arguments = ["push", str(path), "jane/street", "--private", "--onnx", str(graph(tmp_path / "g.onnx", model))]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    repository = hub.repositories["jane/street"]
    (oid,) = repository.commits
    assert repository.private and set(repository.files) == {
        "model.safetensors",
        "README.md",
        "config.json",
        "model.onnx",
    }
    assert result.stdout == f"hf://jane/street@{oid}\n"


def test_the_command_fails_in_one_line(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    result = CliRunner().invoke(app, ["push", str(segzoo.save(small(), tmp_path / "m")), "jane/street"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith("Error: You have no write access to jane/street")
