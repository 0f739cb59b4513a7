"""Fetching from servers that misbehave: the right file, or an error and nothing in the cache."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import loopback
import pytest
from loopback import Server

import segzoo
from segzoo.errors import DownloadError
from segzoo.weights import cache, download
from segzoo.weights.download import fetch

SHA = hashlib.sha256(Server.content).hexdigest()
SIZE = len(Server.content)


@pytest.fixture(autouse=True)
def _network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(download, "_PAUSES", (0.0, 0.01, 0.02))
    monkeypatch.setattr(download, "_READ", 0.3)


@pytest.fixture
def server() -> Iterator[Server]:
    with loopback.serving() as running:
        yield running


def get(*urls: str, size: int | None = SIZE, name: str = "small.safetensors") -> Path:
    return fetch(urls, SHA, name=name, size=size)


def files() -> list[str]:
    """Everything in the cache but the locks."""
    root = cache.folder()
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and p.parent.name != "locks")


def kept() -> list[str]:
    return [f"weights{os.sep}small-{SHA[:16]}.safetensors"]


@pytest.mark.parametrize(
    "behaviours",
    [
        (loopback.well,),
        (loopback.chunked,),
        (loopback.until_closed,),
        (loopback.drips,),
        (loopback.truncated, loopback.well),
        (loopback.truncated, loopback.whole),
        (loopback.truncated, loopback.other_range, loopback.well),
        (loopback.truncated, loopback.answers(416), loopback.whole),
        (loopback.truncated, loopback.answers(503), loopback.well),
        (loopback.reset, loopback.reset, loopback.well),
        (loopback.stops, loopback.well),
        (loopback.silent, loopback.well),
        (loopback.no_http, loopback.well),
        (loopback.answers(503), loopback.well),
        (loopback.answers(503), loopback.answers(429), loopback.well),
    ],
)
def test_what_passes_is_overcome(server: Server, behaviours) -> None:
    path = get(server.on("/small", *behaviours))
    assert path.read_bytes() == Server.content
    assert files() == kept()


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize(
    ("behaviour", "said", "tries"),
    [
        (loopback.truncated, "it broke off.*Tried 3 times", 3),
        (loopback.truncated_without_length, "it broke off after|another file, of sha256", None),
        (loopback.reset, "it broke off.*Tried 3 times", 3),
        (loopback.stops, "timed out.*Tried 3 times", 3),
        (loopback.silent, "timed out.*Tried 3 times", 3),
        (loopback.other, "another file, of sha256 [0-9a-f]{64} and not", 1),
        (loopback.shorter, "another file, of", 1),
        (loopback.promises_less, "another file, of", 1),
        (loopback.promises_more, "another file, of|it broke off", None),
        (loopback.no_http, "Tried 3 times", 3),
        (loopback.answers(404), "it answers 404 Not Found", 1),
        (loopback.answers(403), "it answers 403 Forbidden", 1),
        (loopback.answers(503), "it answers 503 Service Unavailable.*Tried 3 times", 3),
        (loopback.answers(204), "it answers 204", 1),
        (loopback.redirects("/small"), "Exceeded 10 redirects", 11),
        (loopback.redirects("http://example.com/small"), "redirects to http://example.com/small", 1),
        (loopback.redirects("http://127.0.0.1.example.com/small"), "http can be changed on the way", 1),
        (loopback.redirects("file:///etc/passwd"), "file:///etc/passwd", 1),
    ],
)
def test_what_stays_is_an_error(server: Server, behaviour, said: str, tries: int | None, size: int | None) -> None:
    url = server.on("/small", behaviour)
    with pytest.raises(DownloadError, match=f"(?s)Could not fetch small.safetensors.*{url}.*{said}"):
        get(url, size=size)
    assert files() == []
    assert tries is None or len(server.asked) == tries


def test_a_drip_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_WINDOW", 0.2)
    with pytest.raises(DownloadError, match=r"it sent [0-9]+ bytes in 0 seconds.*Tried 3 times"):
        get(server.on("/small", loopback.drips_for_ever))
    assert files() == []


def test_more_than_the_file_is_not_read(server: Server) -> None:
    with pytest.raises(DownloadError, match="more than the 307,200 bytes"):
        get(server.on("/small", loopback.endless))
    assert files() == []


def test_a_redirect_is_followed(server: Server) -> None:
    server.on("/there", loopback.well)
    assert get(server.on("/small", loopback.redirects("/there"))).read_bytes() == Server.content


def test_what_is_there_is_not_sent_twice(server: Server) -> None:
    get(server.on("/small", loopback.truncated, loopback.well))
    assert server.asked == [("/small", None), ("/small", f"bytes={SIZE * 2 // 3}-")]


def test_a_busy_server_does_not_cost_what_is_there(server: Server) -> None:
    get(server.on("/small", loopback.truncated, loopback.answers(503), loopback.well))
    assert [wanted for _, wanted in server.asked] == [None, *2 * [f"bytes={SIZE * 2 // 3}-"]]


def test_a_part_of_another_file_is_not_gone_on_with(server: Server) -> None:
    def half_of_another(handler: loopback.Handler, content: bytes) -> None:
        loopback.truncated(handler, content[::-1])

    get(server.on("/small", half_of_another, loopback.well, loopback.well))
    assert [wanted for _, wanted in server.asked] == [None, f"bytes={SIZE * 2 // 3}-", None]


def test_mirrors_are_tried_in_order(server: Server) -> None:
    faulty = {"/gone": loopback.missing, "/wrong": loopback.other, "/half": loopback.truncated}
    urls = [server.on(path, behaviour) for path, behaviour in faulty.items()]
    path = get(*urls, server.on("/good", loopback.well), server.on("/never", loopback.well))
    assert path.read_bytes() == Server.content
    assert [asked for asked, _ in server.asked] == ["/gone", "/wrong", "/half", "/half", "/half", "/good"]
    assert ("/good", None) in server.asked  # nothing of what /half sent


def test_every_mirror_is_named_in_the_error(server: Server) -> None:
    urls = [server.on("/gone", loopback.missing), server.on("/wrong", loopback.other)]
    with pytest.raises(DownloadError) as caught:
        get(*urls)
    assert all(url in str(caught.value) for url in urls)
    assert str(cache.place("small.safetensors", SHA)) in str(caught.value)


def test_nobody_listens(server: Server) -> None:
    url = server.on("/small", loopback.well)
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match=r"Connection refused|Errno"):
        get(url)
    assert files() == []


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a.safetensors",
        "http://127.0.0.1.example.com/a.safetensors",
        "http://localhost@example.com/a.safetensors",
        "ftp://example.com/a.safetensors",
        "file:///a.safetensors",
        "https:///a.safetensors",
        "https://[/a.safetensors",
    ],
)
def test_urls_that_are_not_fetched(url: str) -> None:
    with pytest.raises(DownloadError, match=r"no https URL|Use https"):
        get(url)
    assert not cache.folder().exists()


def test_a_length_that_is_a_lie_is_overcome(server: Server) -> None:
    url = server.on("/small", loopback.promises_more, loopback.well)
    assert get(url, size=None).read_bytes() == Server.content


# The cache


def test_the_cache_is_asked_first(server: Server) -> None:
    url = server.on("/small", loopback.well)
    assert get(url) == get(url)
    assert len(server.asked) == 1


@pytest.mark.parametrize("spoilt", [b"", b"another file", Server.content[:-1]])
def test_a_file_that_somebody_spoilt_is_fetched_again(server: Server, spoilt: bytes) -> None:
    url = server.on("/small", loopback.well)
    get(url).write_bytes(spoilt)
    assert get(url).read_bytes() == Server.content


def test_a_spoilt_file_stays_as_it_is_where_no_other_can_be_had(server: Server) -> None:
    get(server.on("/small", loopback.well, loopback.missing)).write_bytes(b"spoilt")
    with pytest.raises(DownloadError, match="404"):
        get(server.on("/small", loopback.missing))


@pytest.mark.parametrize("setting", ["SEGZOO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(server: Server, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    url = server.on("/small", loopback.well)
    monkeypatch.setenv(setting, "1")
    with pytest.raises(DownloadError, match=f"not in the cache and {setting}=1 forbids the network"):
        get(url)
    assert server.asked == [] and not cache.folder().exists()
    monkeypatch.setenv(setting, "0")
    path = get(url)
    monkeypatch.setenv(setting, "1")
    assert get(url) == path
    path.write_bytes(b"spoilt")
    with pytest.raises(DownloadError, match=f"{setting}=1 forbids"):
        get(url)
    path.write_bytes(Server.content)  # by hand, where the error said
    assert get(url) == path


def test_the_cache_is_where_the_platform_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    monkeypatch.delenv("SEGZOO_CACHE")
    assert cache.folder() == platformdirs.user_cache_path("segmentation-zoo", appauthor=False)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("model.safetensors", "model-0123456789abcdef.safetensors"),
        ("../../../etc/passwd", "passwd-0123456789abcdef"),
        ("..", "file-0123456789abcdef"),
        ("", "file-0123456789abcdef"),
        (".pth", "pth-0123456789abcdef"),
        ("a b\\c:d\x00.pth", "a_b_c_d_-0123456789abcdef.pth"),
        ("\N{SNOWMAN}.pth", "_-0123456789abcdef.pth"),
        ("a" * 300 + ".pth", "a" * 96 + "-0123456789abcdef.pth"),
    ],
)
def test_names_stay_in_their_folder(name: str, kept: str) -> None:
    path = cache.place(name, "0123456789abcdef" * 4)
    assert path == cache.folder() / "weights" / kept


def test_a_cache_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DownloadError, match="SEGZOO_CACHE=folder names another place"):
        get(server.on("/small", loopback.well))


def test_a_disk_that_is_full(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(DownloadError, match="No space left"):
        get(server.on("/small", loopback.well))
    assert files() == [] and len(server.asked) == 1


# Processes

RACER = """
import sys
from segzoo.weights import download
download._PAUSES = (0.0, 0.0, 0.0)
print(download.fetch([sys.argv[1]], sys.argv[2], name="small.safetensors"))
assert "torch" not in sys.modules
"""


def racer(url: str) -> "subprocess.Popen[str]":
    source = str(Path(segzoo.__file__).parents[1])
    command = [sys.executable, "-c", RACER, url, SHA]
    environment = os.environ | {"PYTHONPATH": source}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_that_want_one_file_fetch_it_once(server: Server) -> None:
    url = server.on("/small", loopback.drips)
    racers = [racer(url) for _ in range(3)]
    for one in racers:
        out, err = one.communicate(timeout=60)
        assert (one.returncode, err) == (0, ""), err
        assert Path(out.strip()).read_bytes() == Server.content
    assert len(server.asked) == 1
    assert files() == kept()


def test_a_process_that_is_killed_stops_nobody(server: Server) -> None:
    url = server.on("/small", loopback.stops, loopback.well)
    victim = racer(url)
    while not server.asked:
        assert victim.poll() is None, victim.communicate()
        time.sleep(0.02)
    time.sleep(0.1)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert len(files()) == 1 and files() != kept()  # its draft
    get(url)
    assert files() == kept()


# Progress


def test_a_terminal_shows_size_and_speed(server: Server, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    get(server.on("/small", loopback.drips))
    out, err = capfd.readouterr()
    assert out == "" and "small.safetensors" in err and "/307.2 kB" in err and "kB/s" in err


def test_a_pipe_shows_nothing(server: Server, capfd) -> None:
    get(server.on("/small", loopback.well))
    assert capfd.readouterr() == ("", "")


def test_a_bar_within_a_bar_is_left_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console
    from rich.status import Status

    monkeypatch.setenv("FORCE_COLOR", "1")
    with Status("loading", console=Console(stderr=True)):
        assert get(server.on("/small", loopback.well)).is_file()
