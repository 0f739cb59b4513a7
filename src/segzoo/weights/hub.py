"""hf://owner/repo: a file in a repository on the Hugging Face hub.

huggingface_hub downloads it, into segzoo's cache folder. This module parses the address and explains errors.
"""

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote

from segzoo._optional import HUB, needs
from segzoo._version import __version__
from segzoo.errors import DownloadError, OptionError
from segzoo.weights import cache

FILE = "model.safetensors"
"""The file that an address without a file name refers to."""

CONFIG = "config.json"
"""The file whose requests the hub counts as downloads of a repository. segzoo writes it and never reads it."""

TELEMETRY = ("HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK")
"""Variables with which users decide about the telemetry of huggingface_hub; segzoo sets the first if none is set."""

_turned_off = False
"""Whether segzoo has turned telemetry off, and not the user."""

_lock = threading.Lock()
_inside, _before = 0, False
"""How many threads are inside `settings`, and huggingface_hub's own setting before the first of them."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_PART = r"[^/\\:\x00-\x1f]+"
_ADDRESS = re.compile(rf"hf://(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>[^/@]+))?(?:/(?P<file>{_PART}(?:/{_PART})*))?")


@dataclass(frozen=True)
class HubFile:
    """One file on the hub."""

    repo: str
    """owner/name."""

    file: str = FILE
    """Its path in the repository."""

    revision: str | None = None
    """A branch, tag or commit; None is the main branch."""

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"hf://{self.repo}{revision}" + ("" if self.file == FILE else f"/{self.file}")


def parse(source: str) -> HubFile:
    """Parses "hf://owner/repo[@revision][/file]"; a slash in a revision is written as %2F.

    Raises:
        OptionError: the address has another form, or its path leaves the repository.
    """
    match = _ADDRESS.fullmatch(source)
    if match is None:
        raise OptionError(f"{source!r} is not of the form hf://owner/repo[@revision][/file].")
    check_repo(match["repo"])
    file = match["file"] or FILE
    revision = None if match["revision"] is None else unquote(match["revision"])
    parts = [*file.split("/"), *(revision or "").split("/")]
    if any(part in (".", "..") for part in parts) or re.search(r"[\\\x00-\x1f]", revision or ""):
        raise OptionError(f"{source!r} leaves its repository. Name a file in it.")
    return HubFile(match["repo"], file, revision)


def check_repo(repo: str) -> None:
    """Checks the name of a repository.

    Raises:
        OptionError: it is not owner/name, of letters, digits, dots, dashes and underscores as the hub allows them.
    """
    owner, _, name = repo.partition("/")
    for part in (owner, name):
        if not re.fullmatch(_NAME, part) or ".." in part or "--" in part or part[-1] in ".-" or len(part) > 96:
            raise OptionError(f"{repo!r} is not a valid repository name. A valid one looks like jane/unet-camvid.")


@contextlib.contextmanager
def settings() -> Iterator[None]:
    """Applies segzoo's settings to huggingface_hub, whoever calls it: every request to the hub is made inside.

    SEGZOO_OFFLINE forbids the network; files in the cache still load. Telemetry is off, unless the user has decided
    about it. With telemetry, huggingface_hub sends the version of torch, and downloads a list of coding agents once a
    day, even for a file in the cache, to report which of them runs the process; hf_xet, which transfers large files,
    reports each transfer.
    """
    from huggingface_hub import constants

    global _turned_off, _inside, _before
    decided = [os.environ[name] for name in TELEMETRY if name in os.environ]
    if not decided:
        _turned_off = True
        os.environ[TELEMETRY[0]] = "1"  # hf_xet reads it at the first transfer
    if not decided or any(value.upper() in constants.ENV_VARS_TRUE_VALUES for value in decided):
        constants.HF_HUB_DISABLE_TELEMETRY = True  # huggingface_hub has read the variables already
    with _lock:
        if _inside == 0:
            _before = constants.HF_HUB_OFFLINE
        _inside += 1
        constants.HF_HUB_OFFLINE = _before or cache.offline() is not None
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:  # the last thread restores what the first one found
                constants.HF_HUB_OFFLINE = _before


def fetch(wanted: HubFile) -> Path:
    """Downloads the file unless it is cached, and returns its path in the cache.

    In the hub's cache, a large file is named after its sha256; its content is compared with that. After a download, the
    hub is asked for the headers of config.json too, since it counts a repository's downloads by that file; not if the
    user has turned telemetry off.

    Raises:
        MissingPackageError: huggingface_hub is not installed.
        DownloadError: the repository, revision or file does not exist, access is denied, the network is unavailable
            or forbidden, or the file is damaged.
    """
    setting = cache.offline()
    with needs(str(wanted), HUB):
        import huggingface_hub
    try:
        folder = cache.folder() / "hub"
        cached = huggingface_hub.try_to_load_from_cache(wanted.repo, wanted.file, folder, wanted.revision)
        with settings():
            path = Path(
                huggingface_hub.hf_hub_download(
                    wanted.repo,
                    wanted.file,
                    revision=wanted.revision,
                    cache_dir=folder,
                    local_files_only=setting is not None,
                    library_name="segzoo",
                    library_version=__version__,
                )
            )
        # Without symbolic links (common on Windows) the name is no sha256; huggingface_hub's size check must suffice.
        # The link is read once: its target may be a link too, to a file that is named after its hash in Xet storage.
        blob = path.parent / path.readlink() if path.is_symlink() else path
        if re.fullmatch(r"[0-9a-f]{64}", blob.name) and cache.sha256_of(blob) != blob.name:
            for file in (blob.resolve(), blob, path):
                file.unlink(missing_ok=True)
            raise DownloadError(f"{wanted}: the file did not have the hub's sha256 and was deleted. Load it again.")
        if not isinstance(cached, str) or Path(cached) != path:
            _count_download(wanted)
        return path
    except DownloadError:
        raise
    except Exception as error:  # huggingface_hub passes on the errors of its HTTP library, which varies by version
        _explain(wanted, error, setting)


def _count_download(wanted: HubFile) -> None:
    """Requests the headers of the repository's config.json, unless the user has turned telemetry off.

    Many repositories have no such file.
    """
    import huggingface_hub
    from huggingface_hub import constants

    # The model is there already, whatever goes wrong here.
    with contextlib.suppress(Exception), settings():
        if _turned_off or not constants.HF_HUB_DISABLE_TELEMETRY:
            url = huggingface_hub.hf_hub_url(wanted.repo, CONFIG, revision=wanted.revision)
            huggingface_hub.get_hf_file_metadata(url, library_name="segzoo", library_version=__version__)


def _explain(wanted: HubFile, error: Exception, setting: str | None) -> NoReturn:
    from huggingface_hub import errors

    if setting is not None:
        why = f"it is not in the cache and {setting} forbids the network. Load it once with network access."
    elif isinstance(error, errors.GatedRepoError):
        why = f"access is gated. Request it at {_page(wanted)}, then log in with `hf auth login`."
    elif isinstance(error, errors.RepositoryNotFoundError):
        why = f"the hub has no repository {wanted.repo!r}, or it is private. `hf auth login` gives access to your own."
    elif isinstance(error, errors.RevisionNotFoundError):
        why = f"the repository has no branch, tag or commit {wanted.revision!r}. See {_page(wanted)}."
    elif isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        why = f"the repository has no file {wanted.file!r}. See {_page(wanted)}. hf://owner/repo/FILE names another."
    else:
        why = reason(error)
    raise DownloadError(f"Could not fetch {wanted}: {why}") from error


def reason(error: BaseException) -> str:
    """The hub's own message if it sent one, else the first line of the innermost error."""
    while not (message := getattr(error, "server_message", None)) and error.__cause__ is not None:
        error = error.__cause__
    return str(message or error).strip().partition("\n")[0] or type(error).__name__


def _page(wanted: HubFile) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{wanted.repo}/tree/{wanted.revision or 'main'}"
