"""The hub: the files of a data set at one commit, fetching them, and uploading a folder."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import p2r
from p2r.errors import InputError, MissingExtraError
from p2r.models.base import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


# Status of a refused upload → what to do.
_PROBLEMS: dict[int | None, str] = {
    401: "the hub refuses the token: `hf auth login`, or set HF_TOKEN to a valid one",
    403: "the token has no permission to write there; https://hf.co/settings/tokens sets it",
}


class UnreachableError(InputError):
    """The hub did not answer; nothing is known about the data, and the same command can continue later."""

    def __init__(self, source: str, error: Exception) -> None:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        cause = re.sub(r"^\[Errno -?\d+\] ", "", cause)
        super().__init__(
            f"{source}: cannot be read: {cause}; the same command continues later, or give a file or folder "
            "of this machine: --data PATH (p2r eval), --from SOURCE=PATH or --against BENCHMARK=PATH "
            "(p2r data)"
        )


@dataclass(frozen=True, slots=True)
class HubDataset:
    """A data set at one commit."""

    name: str  # `owner/name`
    commit: str  # of the files
    files: tuple[str, ...]  # their paths

    @classmethod
    def find(cls, hub_id: str) -> HubDataset:
        """The data set `owner/name[@revision]` at the commit that the hub serves now.

        Raises:
            UnreachableError: the hub does not know it, or does not answer.
        """
        name, _, revision = hub_id.partition("@")
        with _hub(hub_id) as hub:
            info = hub.HfApi().dataset_info(name, revision=revision or None)
        return cls(name, info.sha, tuple(file.rfilename for file in info.siblings or ()))

    def fetch(self, file: str) -> Path:
        """A file on this machine, fetched into the cache.

        Raises:
            UnreachableError: it cannot be fetched.
        """
        with _hub(f"{self.name}: {file}") as hub:
            path = hub.hf_hub_download(self.name, file, repo_type="dataset", revision=self.commit)
        return Path(path)


def fetch_folder(hub_id: str) -> Path:
    """All files of the data set `owner/name[@revision]`, fetched into the cache.

    Raises:
        UnreachableError: they cannot be fetched.
    """
    name, _, revision = hub_id.partition("@")
    with _hub(hub_id) as hub:
        return Path(hub.snapshot_download(name, repo_type="dataset", revision=revision or None))


def is_private(name: str) -> bool | None:
    """Whether the model repository `owner/name` is private; None where there is none.

    Raises:
        InputError: there is no token, or the hub cannot be reached.
    """
    with _upload(name) as hub:
        if hub.get_token() is None:
            raise InputError(f"{name}: no token for the hub: `hf auth login`, or set HF_TOKEN")
        try:
            return bool(hub.HfApi().model_info(name).private)
        except hub.errors.RepositoryNotFoundError:
            return None


def upload_model(folder: Path, files: Sequence[str], name: str, *, private: bool) -> str:
    """Upload files of a folder to `owner/name`, and remove weights of an earlier upload.

    Args:
        folder: it holds a README.md, among others.
        files: their names.
        name: the repository; made if missing.
        private: of a new repository.

    Returns:
        The address of the commit.

    Raises:
        InputError: it is not permitted, or failed.
    """
    with _upload(name) as hub:
        hub.ModelCard.load(folder / "README.md").validate()  # before there is an empty repository
        hub.create_repo(name, private=private, exist_ok=True)
        done = hub.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=list(files),
            # Shards of other weights could be loaded in place of these.
            delete_patterns=["*.safetensors", "*.safetensors.index.json"],
            commit_message=f"Upload with perceive-to-reason {p2r.__version__}",
        )
    return str(done.commit_url)


def is_hub_id(text: str) -> bool:
    """Whether a text could be `owner/name` or `owner/name@revision`."""
    owner, slash, name = text.partition("@")[0].partition("/")
    legal = all(part and all(c.isalnum() or c in "-_." for c in part) for part in (owner, name))
    return bool(slash) and legal and not owner.startswith(".")


@contextmanager
def hub_client(extra: str) -> Iterator[Any]:
    """The module of the hub's client; `extra` installs it and what it needs."""
    try:
        import huggingface_hub

        yield huggingface_hub
    except ImportError as error:
        raise MissingExtraError(extra, error.name or "jinja2") from error


@contextmanager
def _hub(source: str) -> Iterator[Any]:
    with hub_client("eval") as hub:
        try:
            yield hub
        except Exception as error:
            # The client raises errors of its own, of its HTTP library and of the file system.
            raise UnreachableError(source, error) from error


@contextmanager
def _upload(name: str) -> Iterator[Any]:
    with hub_client("local") as hub:
        try:
            yield hub
        except InputError:
            raise
        except Exception as error:
            # Threads that upload wrap what they raise.
            cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
            status = getattr(getattr(cause, "response", None), "status_code", None)
            refused = status or isinstance(cause, ValueError)
            problem = f"the hub {'refuses it' if refused else 'cannot be reached'}: {one_line(cause)}"
            raise InputError(f"{name}: {_PROBLEMS.get(status, problem)}") from error
