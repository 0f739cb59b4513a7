"""Downloads a file into the cache from the first mirror that has it, resuming and retrying as needed.

The file is written under a temporary name, compared with its sha256, and then renamed, so no reader ever sees a partial
or wrong file.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from segzoo._io import atomic_write
from segzoo._version import __version__
from segzoo.errors import DownloadError
from segzoo.weights import cache
from segzoo.weights.progress import Report, progress

if TYPE_CHECKING:
    import requests

_PAUSES = (0.0, 1.0, 3.0)
"""Seconds to wait before each attempt at a mirror."""

_CONNECT, _READ = 10.0, 30.0
"""Timeouts in seconds of an attempt: for the connection, and between two reads."""

_WINDOW, _MIN_BYTES = 30.0, 30_000
"""An attempt ends if the server sends fewer bytes than this in so many seconds: at 1 kB/s, a file would take days."""

_REDIRECTS = 10
_BLOCK = 1 << 20

_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
"""HTTP status codes that are worth a retry."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _Fault(Exception):
    """A failed attempt at a mirror; `retry` says whether another one may succeed."""

    def __init__(self, reason: str, retry: bool = False) -> None:
        super().__init__(reason)
        self.retry = retry


def fetch(urls: Sequence[str], sha256: str, *, name: str, size: int | None = None) -> Path:
    """Downloads a file unless it is cached, and returns its path in the cache; its sha256 is verified every time.

    If several processes request the same file, only one downloads it.

    Args:
        urls: https mirrors (or http on this machine), in the order in which they are tried.
        sha256: of the whole file, 64 lowercase hexadecimal digits.
        name: name of the file.
        size: size of the whole file in bytes, if known.

    Raises:
        DownloadError: no mirror provides this file, the network is forbidden, or the cache cannot be written. Nothing
            is left behind.
    """
    for url in urls:
        _check_url(url)
    target = cache.path_for(name, sha256)
    try:
        if _is_cached(target, sha256):
            return target
        setting = cache.offline()
        if setting is not None:
            raise DownloadError(
                f"{name} is not in the cache and {setting} forbids the network. Put the file at {target}, or load it "
                "once with network access."
            )
        # Imported only if a download is needed.
        from filelock import FileLock

        locks = cache.folder() / "locks"
        for folder in (target.parent, locks):
            folder.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"{target.name}.lock"):
            if not _is_cached(target, sha256):  # another process may have downloaded it in the meantime
                _delete_drafts(target)
                _download(urls, target, name, sha256, size)
    except OSError as error:
        raise DownloadError(
            f"Cannot store {name} at {target}: {error}. SEGZOO_CACHE=folder sets another cache folder."
        ) from error
    return target


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("https", "http"):
        raise DownloadError(f"{url} is not an https URL.")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise DownloadError(f"{url} is refused: http can be tampered with in transit. Use https.")


def _is_cached(path: Path, sha256: str) -> bool:
    """Whether the file exists and still has its sha256: other programs may write to the cache folder."""
    return path.is_file() and cache.sha256_of(path) == sha256


def _delete_drafts(target: Path) -> None:
    """Deletes the drafts of killed processes; the caller holds the lock, so no other process is writing one."""
    for draft in target.parent.glob(f".{target.stem}.*{target.suffix}"):
        draft.unlink(missing_ok=True)


def _download(urls: Sequence[str], target: Path, name: str, sha256: str, size: int | None) -> None:
    faults = []
    with _session() as session, atomic_write(target) as draft, progress(name) as report:
        for url in urls:
            try:
                _fill(session, url, draft, sha256, size, report)
                return
            except _Fault as fault:
                faults.append(f"{url}: {fault}")
        raise DownloadError(f"Could not fetch {name}. {' '.join(faults)} Or put the file at {target} yourself.")


def _fill(session: "requests.Session", url: str, draft: Path, sha256: str, size: int | None, report: Report) -> None:
    """Fills the draft from one mirror; each attempt resumes where the one before it stopped."""
    draft.write_bytes(b"")
    for attempt, pause in enumerate(_PAUSES, 1):
        time.sleep(pause)
        try:
            resumed = _receive(session, url, draft, size, report)
            actual = cache.sha256_of(draft)
            if actual == sha256:
                return
            draft.write_bytes(b"")
            raise _Fault(f"it is another file, with sha256 {actual} instead of {sha256}.", retry=resumed)
        except _Fault as fault:
            if not fault.retry:
                raise
            if attempt == len(_PAUSES):
                raise _Fault(f"{fault} Tried {attempt} times.") from None


def _receive(session: "requests.Session", url: str, draft: Path, size: int | None, report: Report) -> bool:
    """Appends the rest of the file to the draft; returns whether the draft already had a part of it."""
    import requests
    from urllib3.exceptions import HTTPError

    offset = draft.stat().st_size
    try:
        # A compressed transfer could not be resumed, and its length would not be known.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        with session.get(url, headers=headers, stream=True, timeout=(_CONNECT, _READ)) as response:
            offset = _accept(response, draft, offset)
            total = _total(response, offset, size)
            with draft.open("ab") as file:
                _copy(response, file, offset, total, report)
                file.flush()
                os.fsync(file.fileno())
    except (requests.exceptions.SSLError, requests.exceptions.TooManyRedirects) as error:
        raise _Fault(f"{_reason(error)}.") from error
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _Fault(f"{_reason(error)}.", retry=True) from error
    except requests.RequestException as error:
        raise _Fault(f"{_reason(error)}.") from error
    except HTTPError as error:  # the body is read from urllib3 directly, so requests does not wrap its errors
        raise _Fault(f"it broke off: {_reason(error)}.", retry=True) from error
    return offset > 0


def _accept(response: "requests.Response", draft: Path, offset: int) -> int:
    """The offset at which the response continues the draft; 0, with the draft emptied, if it is the whole file."""
    status = response.status_code
    if status in (206, 416) and not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
        draft.write_bytes(b"")  # the next attempt requests the whole file
        raise _Fault("it does not send the requested range.", retry=True)
    if status not in (200, 206):
        raise _Fault(f"it answers {status} {response.reason}.", retry=status in _TRANSIENT)
    if status == 200:
        draft.write_bytes(b"")
        return 0
    return offset


def _total(response: "requests.Response", offset: int, size: int | None) -> int | None:
    """Size of the whole file in bytes; None if unknown."""
    length = response.headers.get("Content-Length", "")
    total = offset + int(length) if length.isdecimal() else None
    if size is not None and total not in (None, size):
        raise _Fault(f"it is another file, with {total:,} bytes instead of {size:,}.")
    return total if size is None else size


def _copy(response: "requests.Response", file: Any, done: int, total: int | None, report: Report) -> None:
    report(done, total)
    window_start, window_done = time.monotonic(), done
    # read1 returns the bytes available. requests would wait for a whole block, so a slow drip would never time out.
    while block := response.raw.read1(_BLOCK):
        file.write(block)
        done += len(block)
        report(done, total)
        if total is not None and done > total:
            raise _Fault(f"it sends more than the {total:,} bytes of the file.")
        now = time.monotonic()
        if now - window_start > _WINDOW:
            if done - window_done < _MIN_BYTES:
                raise _Fault(f"it sent {done - window_done:,} bytes in {now - window_start:.0f} seconds.", retry=True)
            window_start, window_done = now, done
    if total is not None and done < total:
        raise _Fault(f"it broke off after {done:,} of {total:,} bytes.", retry=True)


def _reason(error: Exception) -> str:
    """The innermost error's message: requests wraps urllib3's error, which wraps the operating system's."""
    inner: object = error
    while isinstance(inner, Exception):
        error = inner
        wrapped = (getattr(error, "reason", None), *error.args, error.__cause__)
        inner = next((cause for cause in wrapped if isinstance(cause, Exception)), None)
    return str(error).rstrip(".") or type(error).__name__


def _session() -> "requests.Session":
    import requests
    from requests.adapters import HTTPAdapter

    class Loopback(HTTPAdapter):
        """Plain http, to this machine only; a redirect to http on another host is refused."""

        def send(
            self,
            request: requests.PreparedRequest,
            stream: bool = False,
            timeout: Any = None,
            verify: bool | str = True,
            cert: Any = None,
            proxies: Any = None,
        ) -> requests.Response:
            if urlsplit(request.url or "").hostname not in _LOOPBACK:
                raise requests.exceptions.InvalidURL(
                    f"it redirects to {request.url}, and http can be tampered with in transit"
                )
            return super().send(request, stream, timeout, verify, cert, proxies=None)

    session = requests.Session()
    session.max_redirects = _REDIRECTS
    session.headers["User-Agent"] = f"segzoo/{__version__}"
    session.mount("http://", Loopback())
    return session
