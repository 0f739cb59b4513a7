"""A file from the first mirror that has it into the cache: verified whole, or not there at all.

Floor 0. Written aside, compared with its sha256, then renamed, so that no reader ever meets half of it or another file.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from segzoo._io import written_aside
from segzoo._version import __version__
from segzoo.errors import DownloadError
from segzoo.weights import cache
from segzoo.weights.progress import Report, progress

if TYPE_CHECKING:
    import requests

_PAUSES = (0.0, 1.0, 3.0)
"""Seconds before each try of a mirror."""

_CONNECT, _READ = 10.0, 30.0
"""Seconds after which a server that does not answer, or says nothing more, is given up for this try."""

_WINDOW, _LEAST = 30.0, 30_000
"""A server that sends fewer bytes than this in so many seconds is given up: at 1 kB/s a file would take days."""

_REDIRECTS = 10
_BLOCK = 1 << 20

_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""HTTP answers that another try may change."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _Fault(Exception):
    """What went wrong with a mirror; `again` says that another try may help."""

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


def fetch(urls: Sequence[str], sha256: str, *, name: str, size: int | None = None) -> Path:
    """The path of a file in the cache, which is fetched unless it is there; never one that is not as told.

    Two processes that want the same file fetch it once.

    Args:
        urls: https mirrors (or http on this machine), in the order in which they are tried.
        sha256: of the whole file, 64 hexadecimal digits; what is in the cache is compared with it too.
        name: what the file is called.
        size: bytes of the whole file, where known.

    Raises:
        DownloadError: no mirror gave this file, the network may not be used, or the cache cannot be written to; nothing
            is left behind.
    """
    for url in urls:
        _check(url)
    target = cache.place(name, sha256)
    try:
        if _holds(target, sha256):
            return target
        setting = cache.offline()
        if setting is not None:
            raise DownloadError(
                f"{name} is not in the cache and {setting} forbids the network. Put the file at {target}, or load it "
                "once with the network."
            )
        # Not at the top: `segzoo list --weights` needs no network.
        from filelock import FileLock

        locks = cache.folder() / "locks"
        for folder in (target.parent, locks):
            folder.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"{target.name}.lock"):
            if not _holds(target, sha256):  # another process may have fetched it meanwhile
                _sweep(target)
                _fetch(urls, target, name, sha256, size)
    except OSError as error:
        raise DownloadError(
            f"Cannot keep {name} at {target}: {error}. SEGZOO_CACHE=folder names another place."
        ) from error
    return target


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("https", "http"):
        raise DownloadError(f"{url} is no https URL.")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise DownloadError(f"{url} is not fetched: http can be changed on the way. Use https.")


def _holds(path: Path, sha256: str) -> bool:
    """Whether the file is there, and is the right one still: a cache is a folder that anybody may write to."""
    return path.is_file() and cache.sha256_of(path) == sha256


def _sweep(target: Path) -> None:
    """Takes away what processes that were killed left: under the lock nobody else writes it."""
    for draft in target.parent.glob(f".{target.stem}.*{target.suffix}"):
        draft.unlink(missing_ok=True)


def _fetch(urls: Sequence[str], target: Path, name: str, sha256: str, size: int | None) -> None:
    faults = []
    with _session() as session, written_aside(target) as draft, progress(name) as report:
        for url in urls:
            try:
                _mirror(session, url, draft, sha256, size, report)
                return
            except _Fault as fault:
                faults.append(f"{url}: {fault}")
        raise DownloadError(f"Could not fetch {name}. {' '.join(faults)} It can also be put by hand at {target}.")


def _mirror(session: "requests.Session", url: str, draft: Path, sha256: str, size: int | None, report: Report) -> None:
    """Fills the draft from one mirror, going on where an earlier try broke off."""
    draft.write_bytes(b"")
    for number, pause in enumerate(_PAUSES, 1):
        time.sleep(pause)
        try:
            resumed = _receive(session, url, draft, size, report)
            found = cache.sha256_of(draft)
            if found == sha256:
                return
            draft.write_bytes(b"")
            raise _Fault(f"it is another file, of sha256 {found} and not {sha256}.", again=resumed)
        except _Fault as fault:
            if not fault.again:
                raise
            if number == len(_PAUSES):
                raise _Fault(f"{fault} Tried {number} times.") from None


def _receive(session: "requests.Session", url: str, draft: Path, size: int | None, report: Report) -> bool:
    """Adds to the draft what it lacks of the file; whether it had a part already."""
    import requests
    from urllib3.exceptions import HTTPError

    have = draft.stat().st_size
    try:
        # Compressed on the way, a file could not be gone on with, and its length would not be known.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with session.get(url, headers=headers, stream=True, timeout=(_CONNECT, _READ)) as answer:
            have = _accept(answer, draft, have)
            total = _total(answer, have, size)
            with draft.open("ab") as file:
                _copy(answer, file, have, total, report)
                file.flush()
                os.fsync(file.fileno())
    except (requests.exceptions.SSLError, requests.exceptions.TooManyRedirects) as error:
        raise _Fault(f"{_reason(error)}.") from error
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _Fault(f"{_reason(error)}.", again=True) from error
    except requests.RequestException as error:
        raise _Fault(f"{_reason(error)}.") from error
    except HTTPError as error:  # while the file comes, which is read past requests
        raise _Fault(f"it broke off: {_reason(error)}.", again=True) from error
    return have > 0


def _accept(answer: "requests.Response", draft: Path, have: int) -> int:
    """How many bytes of the draft the answer goes on from; 0, and an empty draft, where it is the whole file."""
    status = answer.status_code
    if status in (206, 416) and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        draft.write_bytes(b"")  # the next try asks for the whole
        raise _Fault("it does not send the part that was asked for.", again=True)
    if status not in (200, 206):
        raise _Fault(f"it answers {status} {answer.reason}.", again=status in _PASSING)
    if status == 200:
        draft.write_bytes(b"")
        return 0
    return have


def _total(answer: "requests.Response", have: int, size: int | None) -> int | None:
    """Bytes of the whole file, None where nobody says so."""
    length = answer.headers.get("Content-Length", "")
    total = have + int(length) if length.isdecimal() else None
    if size is not None and total not in (None, size):
        raise _Fault(f"it is another file, of {total:,} bytes and not {size:,}.")
    return total if size is None else size


def _copy(answer: "requests.Response", file: Any, done: int, total: int | None, report: Report) -> None:
    report(done, total)
    since, before = time.monotonic(), done
    # read1 returns what is there, where requests waits for a whole block: a server that drips would never time out.
    while block := answer.raw.read1(_BLOCK):
        file.write(block)
        done += len(block)
        report(done, total)
        if total is not None and done > total:
            raise _Fault(f"it sends more than the {total:,} bytes of the file.")
        now = time.monotonic()
        if now - since > _WINDOW:
            if done - before < _LEAST:
                raise _Fault(f"it sent {done - before:,} bytes in {now - since:.0f} seconds.", again=True)
            since, before = now, done
    if total is not None and done < total:
        raise _Fault(f"it broke off after {done:,} of {total:,} bytes.", again=True)


def _reason(error: Exception) -> str:
    """The innermost message: requests wraps urllib3's error, which wraps the system's."""
    inner: object = error
    while isinstance(inner, Exception):
        error = inner
        wrapped = (getattr(error, "reason", None), *error.args, error.__cause__)
        inner = next((one for one in wrapped if isinstance(one, Exception)), None)
    return str(error).rstrip(".") or type(error).__name__


def _session() -> "requests.Session":
    import requests
    from requests.adapters import HTTPAdapter

    class Loopback(HTTPAdapter):
        """http to this machine; a redirect to http elsewhere comes here too, and is refused."""

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
                    f"it redirects to {request.url}, where http can be changed on the way"
                )
            return super().send(request, stream, timeout, verify, cert, proxies=None)

    session = requests.Session()
    session.max_redirects = _REDIRECTS
    session.headers["User-Agent"] = f"segzoo/{__version__}"
    session.mount("http://", Loopback())
    return session
