"""Downloads from servers that misbehave end with the right file, or with an error and an empty cache."""

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


def cached_files() -> list[str]:
    """All files in the cache except the locks."""
    root = cache.folder()
    paths = (path for path in root.rglob("*") if path.is_file() and path.parent.name != "locks")
    return sorted(str(path.relative_to(root)) for path in paths)


def expected_files() -> list[str]:
    return [f"weights{os.sep}small-{SHA[:16]}.safetensors"]


@pytest.mark.parametrize(
    "behaviors",
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
def test_transient_failures_are_retried(server: Server, behaviors) -> None:
    path = get(server.on("/small", *behaviors))
    assert path.read_bytes() == Server.content
    assert cached_files() == expected_files()


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize(
    ("behavior", "message", "attempts"),
    [
        (loopback.truncated, "it broke off.*Tried 3 times", 3),
        (loopback.truncated_without_length, "it broke off after|another file, with sha256", None),
        (loopback.reset, "it broke off.*Tried 3 times", 3),
        (loopback.stops, "timed out.*Tried 3 times", 3),
        (loopback.silent, "timed out.*Tried 3 times", 3),
        (loopback.other, "another file, with sha256 [0-9a-f]{64} instead of", 1),
        (loopback.shorter, "another file, with", 1),
        (loopback.promises_less, "another file, with", 1),
        (loopback.promises_more, "another file, with|it broke off", None),
        (loopback.no_http, "Tried 3 times", 3),
        (loopback.answers(404), "it answers 404 Not Found", 1),
        (loopback.answers(403), "it answers 403 Forbidden", 1),
        (loopback.answers(503), "it answers 503 Service Unavailable.*Tried 3 times", 3),
        (loopback.answers(204), "it answers 204", 1),
        (loopback.redirects("/small"), "Exceeded 10 redirects", 11),
        (loopback.redirects("http://example.com/small"), "redirects to http://example.com/small", 1),
        (loopback.redirects("http://127.0.0.1.example.com/small"), "http can be tampered with in transit", 1),
        (loopback.redirects("file:///etc/passwd"), "file:///etc/passwd", 1),
    ],
)
def test_permanent_failures_raise(
    server: Server, behavior, message: str, attempts: int | None, size: int | None
) -> None:
    url = server.on("/small", behavior)
    with pytest.raises(DownloadError, match=f"(?s)Could not fetch small.safetensors.*{url}.*{message}"):
        get(url, size=size)
    assert cached_files() == []
    assert attempts is None or len(server.asked) == attempts


def test_a_slow_drip_is_aborted(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_WINDOW", 0.2)
    with pytest.raises(DownloadError, match=r"it sent [0-9]+ bytes in 0 seconds.*Tried 3 times"):
        get(server.on("/small", loopback.drips_for_ever))
    assert cached_files() == []


def test_an_endless_response_is_aborted(server: Server) -> None:
    with pytest.raises(DownloadError, match="more than the 307,200 bytes"):
        get(server.on("/small", loopback.endless))
    assert cached_files() == []


def test_a_redirect_is_followed(server: Server) -> None:
    server.on("/moved", loopback.well)
    assert get(server.on("/small", loopback.redirects("/moved"))).read_bytes() == Server.content


def test_a_download_resumes(server: Server) -> None:
    get(server.on("/small", loopback.truncated, loopback.well))
    assert server.asked == [("/small", None), ("/small", f"bytes={SIZE * 2 // 3}-")]


def test_a_busy_server_does_not_discard_the_received_part(server: Server) -> None:
    get(server.on("/small", loopback.truncated, loopback.answers(503), loopback.well))
    assert [requested for _, requested in server.asked] == [None, *2 * [f"bytes={SIZE * 2 // 3}-"]]


def test_a_part_of_another_file_is_discarded(server: Server) -> None:
    def half_of_another(handler: loopback.Handler, content: bytes) -> None:
        loopback.truncated(handler, content[::-1])

    get(server.on("/small", half_of_another, loopback.well, loopback.well))
    assert [requested for _, requested in server.asked] == [None, f"bytes={SIZE * 2 // 3}-", None]


def test_mirrors_are_tried_in_order(server: Server) -> None:
    faulty = {"/gone": loopback.missing, "/wrong": loopback.other, "/half": loopback.truncated}
    urls = [server.on(path, behavior) for path, behavior in faulty.items()]
    path = get(*urls, server.on("/good", loopback.well), server.on("/never", loopback.well))
    assert path.read_bytes() == Server.content
    assert [requested for requested, _ in server.asked] == ["/gone", "/wrong", "/half", "/half", "/half", "/good"]
    assert ("/good", None) in server.asked  # starts over: no Range header for what /half sent


def test_every_mirror_is_named_in_the_error(server: Server) -> None:
    urls = [server.on("/gone", loopback.missing), server.on("/wrong", loopback.other)]
    with pytest.raises(DownloadError) as caught:
        get(*urls)
    assert all(url in str(caught.value) for url in urls)
    assert str(cache.path_for("small.safetensors", SHA)) in str(caught.value)


def test_no_server_listens(server: Server) -> None:
    url = server.on("/small", loopback.well)
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match=r"Connection refused|Errno"):
        get(url)
    assert cached_files() == []


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
def test_urls_that_are_rejected(url: str) -> None:
    with pytest.raises(DownloadError, match=r"not an https URL|Use https"):
        get(url)
    assert not cache.folder().exists()


def test_a_wrong_content_length_is_retried(server: Server) -> None:
    url = server.on("/small", loopback.promises_more, loopback.well)
    assert get(url, size=None).read_bytes() == Server.content


# The cache


def test_a_cached_file_is_not_downloaded_again(server: Server) -> None:
    url = server.on("/small", loopback.well)
    assert get(url) == get(url)
    assert len(server.asked) == 1


@pytest.mark.parametrize("damaged", [b"", b"another file", Server.content[:-1]])
def test_a_damaged_cached_file_is_downloaded_again(server: Server, damaged: bytes) -> None:
    url = server.on("/small", loopback.well)
    get(url).write_bytes(damaged)
    assert get(url).read_bytes() == Server.content


def test_a_damaged_cached_file_that_cannot_be_replaced_is_an_error(server: Server) -> None:
    get(server.on("/small", loopback.well, loopback.missing)).write_bytes(b"damaged")
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
    path.write_bytes(b"damaged")
    with pytest.raises(DownloadError, match=f"{setting}=1 forbids"):
        get(url)
    path.write_bytes(Server.content)  # by hand, at the path in the error
    assert get(url) == path


def test_the_default_cache_is_the_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    monkeypatch.delenv("SEGZOO_CACHE")
    assert cache.folder() == platformdirs.user_cache_path("segmentation-zoo", appauthor=False)


@pytest.mark.parametrize(
    ("name", "expected"),
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
def test_cached_names_stay_in_the_folder(name: str, expected: str) -> None:
    path = cache.path_for(name, "0123456789abcdef" * 4)
    assert path == cache.folder() / "weights" / expected


def test_a_cache_that_cannot_be_created(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DownloadError, match="SEGZOO_CACHE=folder sets another cache folder"):
        get(server.on("/small", loopback.well))


def test_a_full_disk(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(DownloadError, match="No space left"):
        get(server.on("/small", loopback.well))
    assert cached_files() == [] and len(server.asked) == 1


# Processes

PROGRAM = """
import sys
from segzoo.weights import download
download._PAUSES = (0.0, 0.0, 0.0)
print(download.fetch([sys.argv[1]], sys.argv[2], name="small.safetensors"))
assert "torch" not in sys.modules
"""


def start_download(url: str) -> "subprocess.Popen[str]":
    source = str(Path(segzoo.__file__).parents[1])
    command = [sys.executable, "-c", PROGRAM, url, SHA]
    environment = os.environ | {"PYTHONPATH": source}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_concurrent_processes_download_a_file_once(server: Server) -> None:
    url = server.on("/small", loopback.drips)
    processes = [start_download(url) for _ in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, ""), err
        assert Path(out.strip()).read_bytes() == Server.content
    assert len(server.asked) == 1
    assert cached_files() == expected_files()


def test_a_killed_process_does_not_block_others(server: Server) -> None:
    url = server.on("/small", loopback.stops, loopback.well)
    victim = start_download(url)
    while not server.asked:
        assert victim.poll() is None, victim.communicate()
        time.sleep(0.02)
    time.sleep(0.1)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert len(cached_files()) == 1 and cached_files() != expected_files()  # the killed process's draft
    get(url)
    assert cached_files() == expected_files()


# Progress


def test_a_terminal_shows_size_and_speed(server: Server, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    get(server.on("/small", loopback.drips))
    out, err = capfd.readouterr()
    assert out == "" and "small.safetensors" in err and "/307.2 kB" in err and "kB/s" in err


def test_no_progress_without_a_terminal(server: Server, capfd) -> None:
    get(server.on("/small", loopback.well))
    assert capfd.readouterr() == ("", "")


def test_no_second_live_display(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console
    from rich.status import Status

    monkeypatch.setenv("FORCE_COLOR", "1")
    with Status("loading", console=Console(stderr=True)):
        assert get(server.on("/small", loopback.well)).is_file()
