"""What a download from the hub sends, against a fake hub: the request itself, and no telemetry unless users want it."""

import importlib.metadata
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import hub_stand_in
import pytest
from bare_environment import Folders
from hub_stand_in import Hub, Repository
from huggingface_hub import constants
from safetensors.torch import save

import segzoo

FETCH = """
import sys
if "first" in sys.argv:
    import huggingface_hub
from segzoo.weights import hub
try:
    print(hub.fetch(hub.parse("hf://jane/street")).read_bytes())
except Exception as error:
    print(error)
"""
DOWNLOAD = [f"{method} /jane/street/resolve/main/model.safetensors" for method in ("HEAD", "GET")]
COUNT = "HEAD /jane/street/resolve/main/config.json"
AGENTS = "GET /api/agent-harnesses"
USER_AGENT = rf"segzoo/{re.escape(segzoo.__version__)}; hf_hub/[\d.]+; python/[\d.]+"

asks_for_agents = pytest.mark.skipif(
    not hasattr(constants, "AGENT_HARNESSES_PATH"), reason="this huggingface_hub knows no agents"
)


def has_xet() -> bool:
    try:
        return tuple(map(int, importlib.metadata.version("hf_xet").split(".")[:2])) >= (1, 8)
    except importlib.metadata.PackageNotFoundError:
        return False


reports_transfers = pytest.mark.skipif(not has_xet(), reason="no hf_xet that is known to report transfers")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_stand_in.serving() as running:
        running.repositories["jane/street"] = Repository()
        running.repositories["jane/street"].commit({"model.safetensors": b"weights"})
        yield running


@pytest.fixture
def fetch(hub: Hub, tmp_path: Path) -> Callable[..., str]:
    """Downloads the file in a process with these variables, and returns what it prints: the file, or an error."""
    folders = Folders(tmp_path)

    def run(*words: str, **variables: str) -> str:
        done = folders.python(FETCH, *words, HF_ENDPOINT=hub.url, **variables)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


@pytest.mark.parametrize("imported", ["first", "later"])
def test_a_download_is_requested_with_versions_and_counted(hub: Hub, fetch: Callable[..., str], imported: str) -> None:
    assert fetch(imported, AI_AGENT="robot") == "b'weights'\n"
    assert hub.asked == [*DOWNLOAD, COUNT]
    assert all(re.fullmatch(USER_AGENT, agent) for agent in hub.user_agents), hub.user_agents


@pytest.mark.parametrize("name", ["HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK"])
def test_users_decide(hub: Hub, fetch: Callable[..., str], name: str) -> None:
    assert fetch(**{name: "0"}) == "b'weights'\n"
    assert all("; torch/" in agent for agent in hub.user_agents if agent.startswith("segzoo/"))


@asks_for_agents
def test_with_telemetry_the_hub_learns_of_agents(hub: Hub, fetch: Callable[..., str]) -> None:
    fetch(HF_HUB_DISABLE_TELEMETRY="0", AI_AGENT="robot")
    assert hub.asked == [AGENTS, *DOWNLOAD, COUNT]
    assert "; agent/" in hub.user_agents[-1]


@pytest.mark.parametrize("name", ["HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"])
def test_users_who_turn_telemetry_off_are_not_counted(hub: Hub, fetch: Callable[..., str], name: str) -> None:
    assert fetch(**{name: "1"}) == "b'weights'\n"
    assert hub.asked == DOWNLOAD


@pytest.mark.parametrize("telemetry", [{}, {"HF_HUB_DISABLE_TELEMETRY": "0"}])
@pytest.mark.parametrize("setting", ["SEGZOO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_means_no_request_at_all(
    hub: Hub, fetch: Callable[..., str], setting: str, telemetry: dict[str, str]
) -> None:
    """huggingface_hub would ask for the list of agents even if it is only to look into the cache."""
    assert f"{setting}=1 forbids the network" in fetch(**{setting: "1"}, **telemetry)
    assert hub.asked == []
    fetch()
    hub.asked.clear()
    assert fetch(**{setting: "1"}, **telemetry) == "b'weights'\n"
    assert hub.asked == []


def test_xet_reports_no_transfer(hub: Hub, fetch: Callable[..., str]) -> None:
    hub.xet = True
    fetch("first")
    assert "POST /v1/telemetry" not in hub.asked


@reports_transfers
def test_with_telemetry_xet_reports_each_transfer(hub: Hub, fetch: Callable[..., str]) -> None:
    hub.xet = True
    fetch(HF_HUB_DISABLE_TELEMETRY="0")
    assert "GET /xet-token" in hub.asked
    assert "POST /v1/telemetry" in hub.asked


def test_timm_sends_no_more_for_the_weights_of_an_encoder(hub: Hub, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model("test_resnet")
    repository = hub.repositories[timm.get_pretrained_cfg("test_resnet").hf_hub_id] = Repository()
    repository.commit({"model.safetensors": save(network.state_dict())})
    script = "import segzoo; segzoo.create('unet', 'test_resnet', num_classes=2, encoder_weights='imagenet')"
    done = Folders(tmp_path).python(script, HF_ENDPOINT=hub.url, AI_AGENT="robot")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.rpartition("/")[2] for line in hub.asked] == ["model.safetensors", "model.safetensors"]
    assert all(re.fullmatch(r"timm/[\d.]+; hf_hub/[\d.]+; python/[\d.]+", agent) for agent in hub.user_agents)
