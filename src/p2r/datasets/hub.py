"""Data sets on the hub: their files at one commit, and fetching them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator


class UnreachableError(InputError):
    """The hub did not answer; nothing is known about the data, and the same command can continue later."""

    def __init__(self, source: str, error: Exception) -> None:
        cause = f"{type(error).__name__}: {error}".strip().splitlines()[0]
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


def is_hub_id(text: str) -> bool:
    """Whether a text could be `owner/name` or `owner/name@revision`."""
    owner, slash, name = text.partition("@")[0].partition("/")
    legal = all(part and all(c.isalnum() or c in "-_." for c in part) for part in (owner, name))
    return bool(slash) and legal and not owner.startswith(".")


@contextmanager
def _hub(source: str) -> Iterator[Any]:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError("eval", "huggingface_hub") from error
    try:
        yield huggingface_hub
    except Exception as error:
        # The client raises errors of its own, of its HTTP library and of the file system.
        raise UnreachableError(source, error) from error
