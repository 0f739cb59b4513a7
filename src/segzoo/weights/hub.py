"""hf://owner/repo: a file of a repository on the Hugging Face hub.

Floor 0. huggingface_hub does the fetching, into the same cache folder; what is said here is which file, and what went
wrong.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote

from segzoo.errors import DownloadError, OptionError
from segzoo.weights import cache

FILE = "model.safetensors"
"""What a repository holds unless something else is named."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_PART = r"[^/\\:\x00-\x1f]+"
_PLACE = re.compile(rf"hf://(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>[^/@]+))?(?:/(?P<file>{_PART}(?:/{_PART})*))?")


@dataclass(frozen=True)
class HubFile:
    """One file on the hub."""

    repo: str
    """owner/name."""

    file: str = FILE
    """Its path in the repository."""

    revision: str | None = None
    """A branch, a tag or a commit; None is the main branch."""

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"hf://{self.repo}{revision}" + ("" if self.file == FILE else f"/{self.file}")


def parse(source: str) -> HubFile:
    """Reads "hf://owner/repo[@revision][/file]"; a slash in a revision is written %2F.

    Raises:
        OptionError: it is not of that form, or the path leaves the repository.
    """
    found = _PLACE.fullmatch(source)
    if found is None:
        raise OptionError(f"{source!r} is not of the form hf://owner/repo[@revision][/file].")
    check_repo(found["repo"])
    file = found["file"] or FILE
    revision = None if found["revision"] is None else unquote(found["revision"])
    parts = [*file.split("/"), *(revision or "").split("/")]
    if any(part in (".", "..") for part in parts) or re.search(r"[\\\x00-\x1f]", revision or ""):
        raise OptionError(f"{source!r} leaves its repository. Name a file in it.")
    return HubFile(found["repo"], file, revision)


def check_repo(repo: str) -> None:
    """Refuses what cannot be the name of a repository.

    Raises:
        OptionError: not owner/name, of letters, digits, dots, dashes and underscores, as the hub wants them.
    """
    owner, _, name = repo.partition("/")
    for part in (owner, name):
        if not re.fullmatch(_NAME, part) or ".." in part or "--" in part or part[-1] in ".-" or len(part) > 96:
            raise OptionError(f"{repo!r} is no repository of the hub. One is such as jane/unet-camvid.")


def fetch(wanted: HubFile) -> Path:
    """The path of the file in the cache, which is fetched unless it is there.

    A large file's name in the hub's cache is its sha256, and the file is compared with it.

    Raises:
        DownloadError: no such repository, revision or file; private and no access; no network, or none allowed.
    """
    setting = cache.offline()
    try:
        import huggingface_hub

        path = Path(
            huggingface_hub.hf_hub_download(
                wanted.repo,
                wanted.file,
                revision=wanted.revision,
                cache_dir=cache.folder() / "hub",
                local_files_only=setting is not None,
                library_name="segzoo",
            )
        )
        # Without links (on Windows, often) the name says nothing, and huggingface_hub's check of the size has to do.
        blob = path.resolve()
        if re.fullmatch(r"[0-9a-f]{64}", blob.name) and cache.sha256_of(blob) != blob.name:
            path.unlink()
            blob.unlink(missing_ok=True)
            raise DownloadError(f"{wanted}: the file is not the one that the hub names. Load it again.")
        return path
    except DownloadError:
        raise
    except Exception as error:  # huggingface_hub hands on those of whatever HTTP library it uses in this version
        _explain(wanted, error, setting)


def _explain(wanted: HubFile, error: Exception, setting: str | None) -> NoReturn:
    from huggingface_hub import errors

    if setting is not None:
        why = f"it is not in the cache and {setting} forbids the network. Load it once with the network."
    elif isinstance(error, errors.GatedRepoError):
        why = f"its owner gives it to those who ask: do so at {_page(wanted)}, and log in with `hf auth login`."
    elif isinstance(error, errors.RepositoryNotFoundError):
        why = f"the hub has no repository {wanted.repo!r}, or it is private: `hf auth login` shows what is yours."
    elif isinstance(error, errors.RevisionNotFoundError):
        why = f"the repository has no branch, tag or commit {wanted.revision!r}: see {_page(wanted)}."
    elif isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        why = f"the repository has no file {wanted.file!r}: see {_page(wanted)}. hf://owner/repo/FILE names another."
    else:
        why = reason(error)
    raise DownloadError(f"Could not fetch {wanted}: {why}") from error


def reason(error: BaseException) -> str:
    """The hub's own words where it said some, else the first line of the innermost error."""
    while not (said := getattr(error, "server_message", None)) and error.__cause__ is not None:
        error = error.__cause__
    return str(said or error).strip().partition("\n")[0] or type(error).__name__


def _page(wanted: HubFile) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{wanted.repo}/tree/{wanted.revision or 'main'}"
