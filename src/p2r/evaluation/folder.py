"""A run folder explains itself: what was asked of whom and how, every answer, and the figures.

RUN/config.json               settings, versions, commands: all it takes to repeat the run
RUN/predictions-MODE.jsonl    one line for each answer, in the order in which they came
RUN/failures-MODE.jsonl       one line for each attempt that failed
RUN/summary.json              the figures
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError, file_problem
from p2r.runs.files import folder_lock, write_json
from p2r.runs.identity import claim
from p2r.runs.journal import read_lines
from p2r.types import MODES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from p2r.evaluation.benchmarks import Selection
    from p2r.evaluation.records import Record
    from p2r.types import Mode

CONFIG = "config.json"
SUMMARY = "summary.json"


# What may differ when a run is extended: more questions of the same kind.
_EXTENT = ("data", "limit", "questions")


def begin(
    out: Path,
    identity: dict[str, Any],
    details: dict[str, Any],
    session: dict[str, Any],
    selection: Selection,
) -> int:
    """Begin a run in its folder, continue or extend it; returns the number of this session.

    A run is extended by a larger limit, or by data that begins with the rows of the run so far.

    Args:
        out: the folder; it is there, and locked.
        identity: the settings that decide what is asked and answered; they must be those of the run so far,
            except that more questions may be asked.
        details: what else describes the run: `source`, `rows`, `opening`, …
        session: what describes this session: command, versions, when.
        selection: the questions.

    Raises:
        InputError: a setting differs from those of the run so far, or the folder holds something else.
    """
    config = {**_config(out, identity, selection), **details}
    config["sessions"].append(session)
    write_json(out / CONFIG, config)
    return len(config["sessions"])


def check(out: Path, identity: dict[str, Any], selection: Selection) -> None:
    """Whether `begin` would take the folder as it is now; nothing is written.

    Raises:
        InputError: as `begin`, or another process is writing the run.
    """
    _config(out, identity, selection)  # first: a folder that is not ours gets no lock either
    with folder_lock(out) if (out / CONFIG).exists() else nullcontext():
        _config(out, identity, selection)


def _config(out: Path, identity: dict[str, Any], selection: Selection) -> dict[str, Any]:
    """The run in the folder with its settings as they are now, or a new one."""
    identity = json.loads(json.dumps(identity))  # compared as they will be read back
    claim(out, CONFIG, ("predictions-*.jsonl", "failures-*.jsonl", SUMMARY))
    if not (out / CONFIG).exists():
        return {"identity": identity, "sessions": []}
    config = read_config(out)
    before = config["identity"]
    if _extends(out, config, selection):
        before = {**before, **{name: identity[name] for name in _EXTENT}}
    if differences := _differences(before, identity):
        shown = "; ".join(differences)
        if before["questions"] > identity["questions"]:
            shown += "; a run can be extended by a larger --limit, and not be cut by a smaller one"
        raise InputError(f"{out} was begun with other settings: {shown}; give --out another folder")
    return {**config, "identity": identity}


def _extends(out: Path, config: dict[str, Any], selection: Selection) -> bool:
    """Whether the questions of a run so far are among those that are chosen now."""
    rows = config.get("rows", 0)
    if not 0 < rows <= selection.total or selection.fingerprints[rows - 1] != config["identity"]["data"]:
        return False
    chosen = {chosen.id for chosen in selection.chosen.values()}
    files = [out / f"{kind}-{mode}.jsonl" for kind in ("predictions", "failures") for mode in MODES]
    return all(line.get("id") in chosen for file in files for line in read_lines(file))


def read_config(folder: Path) -> dict[str, Any]:
    """What `begin` wrote.

    Raises:
        InputError: the folder is not that of a run.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        found = f"it has no {CONFIG}" if folder.is_dir() else "there is no such folder"
        raise InputError(f"{folder} is not a run folder: {found}; p2r eval and p2r train make one") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {file_problem(error)}") from error
    if not isinstance(config, dict) or not {"identity", "sessions"} <= config.keys():
        raise InputError(f"{path} was not written by p2r eval")
    return config


@dataclass(frozen=True, slots=True)
class RunData:
    """What a run folder holds, read for figures.

    Attributes:
        folder: where it is.
        config: as in `config.json`.
        records: mode → its answers, each question once, in the order of their ids.
        failures: mode → the last failure of each question that has no answer.
    """

    folder: Path
    config: dict[str, Any]
    records: Mapping[Mode, list[Record]]
    failures: Mapping[Mode, list[Record]]

    @classmethod
    def read(cls, folder: Path) -> RunData:
        """Read a run folder, also one that is being written or was left half way.

        Raises:
            InputError: it is not one.
        """
        config = read_config(folder)
        records: dict[Mode, list[Record]] = {}
        failures: dict[Mode, list[Record]] = {}
        for mode in MODES:
            answered = _by_id(read_lines(folder / f"predictions-{mode}.jsonl"))
            failed = _by_id(read_lines(folder / f"failures-{mode}.jsonl"))
            if answered or failed:
                records[mode] = [answered[name] for name in sorted(answered)]
                failures[mode] = [failed[name] for name in sorted(failed) if name not in answered]
        return cls(folder, config, records, failures)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that were asked."""
        return tuple(self.records)


def _by_id(lines: list[Record]) -> dict[str, Record]:
    return {str(line["id"]): line for line in lines if "id" in line}


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} was {_shown(old)}, is {_shown(new)}")
    return found


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
