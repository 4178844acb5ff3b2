"""The README.md of a model on the hub: the card that its training wrote, and `model_card.md` filled in.

The text above `MARK` is kept as it is; what follows is written anew by each push. Of the metadata, what is
there already is kept, and the results are those of the runs that are given. Paths and servers are not named.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import p2r
from p2r.datasets.hub import hub_client, is_hub_id
from p2r.errors import InputError, install_command
from p2r.evaluation.records import RunData
from p2r.evaluation.summary import Summary, summarize
from p2r.evaluation.tables import grids, interval
from p2r.models.base import one_line
from p2r.models.checkpoint import locate
from p2r.models.options import split_spec
from p2r.runs.files import encode_json, read_json
from p2r.runs.provenance import revision
from p2r.settings import SETTINGS_FILE, Settings
from p2r.text import without_secrets
from p2r.training.run_folder import MODEL, RECIPE, TrainingRun, is_training_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from huggingface_hub import EvalResult, ModelCard

CARD = "README.md"
MARK = "<!-- What follows is written anew by each p2r push; the text above this line is kept. -->"
# What belongs to a model. Anything else in its folder stays on this machine.
FILES = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", SETTINGS_FILE),
    *("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt"),
    *("added_tokens.json", "special_tokens_map.json", "chat_template.jinja", "chat_template.json"),
    *("LICENSE*", "NOTICE*"),
)
# Of the card of a training; the section "Use" has it for the repository.
_OWN_USE = re.compile(r"```sh\np2r answer \w+ QUESTION --model THIS_FOLDER\n```\n\n")
_TASK = "perceive-to-reason"  # how results of ours are told from others in the metadata


@dataclass(frozen=True, slots=True)
class Publication:
    """A model folder that can be uploaded, and the training that made it, if its run folder is there."""

    folder: Path
    files: tuple[str, ...]  # that are uploaded, beside the card
    run: TrainingRun | None

    @classmethod
    def find(cls, folder: Path) -> Publication:
        """The model of a training run, or a model folder.

        Raises:
            InputError: there is none, or it is not complete.
        """
        run = next((one for one in (folder, folder.absolute().parent) if is_training_run(one)), None)
        model = folder / MODEL if run == folder else folder
        if not model.is_dir():
            raise InputError(f"{model}: there is no such folder; p2r train writes it at the end of a run")
        locate(str(model), str(folder))
        files = sorted(path.name for pattern in FILES for path in model.glob(pattern) if path.is_file())
        weights = {name for name in files if name.endswith(".safetensors")}
        for index in model.glob("*.safetensors.index.json"):
            if missing := set(read_json(index).get("weight_map", {}).values()) - weights:
                raise InputError(f"{model} is not complete: {min(missing)} is missing")
        if not weights:
            raise InputError(f"{model} is no checkpoint: it holds no *.safetensors")
        return cls(model, tuple(files), TrainingRun.read(run) if run else None)

    def results(self, name: str, folder: Path) -> tuple[RunData, Summary]:
        """An evaluation of this model, whose repository is `name`.

        Raises:
            InputError: it is no complete evaluation, or that of another model.
        """
        run = RunData.read(folder)
        summary, identity = summarize(run), run.config.identity
        if not summary.complete:
            raise InputError(f"results {folder}: the run is not complete; the same p2r eval continues it")
        evaluated, own = identity.model_revision, revision(str(self.folder))
        if evaluated not in (None, own) and name != split_spec(identity.model)[0].removeprefix("vllm:"):
            raise InputError(
                f"results {folder} are of another model, {identity.model}: weights {evaluated}, not {own}"
            )
        return run, summary

    def card(
        self, name: str, results: Sequence[tuple[RunData, Summary]] = (), base: str | None = None
    ) -> ModelCard:
        """The README.md for the repository `name`.

        Args:
            name: `owner/name`.
            results: of `results`.
            base: the hub id of the model that this one was made from; None for what the files say.

        Raises:
            InputError: the README.md of the folder cannot be read.
        """
        path = self.folder / CARD
        with hub_client("local") as hub:
            try:
                text = path.read_text(encoding="utf-8") if path.exists() else ""
                card = hub.ModelCard(text if text.startswith("---") else f"---\n{{}}\n---\n\n{text}")
            except Exception as error:  # the client raises what its YAML library raises, too
                raise InputError(f"{path} cannot be read: {one_line(error)}") from error
        data = card.data
        trained_from = split_spec(self.run.recipe.model)[0] if self.run else ""
        data.base_model = base or data.base_model or (trained_from if is_hub_id(trained_from) else None)
        data.library_name = data.library_name or "transformers"
        data.pipeline_tag = data.pipeline_tag or "image-text-to-text"
        data.datasets = data.datasets or _hub_datasets(self.run)
        data.tags = list(dict.fromkeys([*(data.tags or ()), _TASK]))
        others = [one for one in data.eval_results or () if one.task_name != _TASK]
        data.eval_results = [*others, *(one for pair in results for one in _entries(*pair))] or None
        data.model_name = name.partition("/")[2] if data.eval_results else None
        settings = Settings.load(self.folder) if SETTINGS_FILE in self.files else Settings()
        recipe = (self.run.folder / RECIPE).read_text(encoding="utf-8").rstrip() if self.run else ""
        with hub_client("local") as hub:
            made: ModelCard = hub.ModelCard.from_template(
                data,
                template_path=str(Path(__file__).with_suffix(".md")),
                name=name,
                kept=_OWN_USE.sub("", card.text.partition(MARK)[0]).strip(),
                mark=MARK,
                model=self,
                results=results,
                recipe=without_secrets(_shortened(recipe)),
                settings=settings,
                settings_json=encode_json(settings.to_dict(), indent=2).decode(),
                install=install_command("local"),
                version=p2r.__version__,
                public=_public,
                grids=grids,
                time=time,
            )
        return made


def _entries(run: RunData, summary: Summary) -> Iterator[EvalResult]:
    """The results of a run as metadata, one for each mode."""
    from huggingface_hub import EvalResult

    identity, (place, _, commit) = run.config.identity, run.config.source.partition("@")
    on_hub = bool(commit) and is_hub_id(place)
    for mode, figures in summary.modes.items():
        boxes = ", gold boxes" if identity.boxes == "gold" else ""
        count, ends = f"{figures.total.n} questions", f"95 % interval {interval(figures.total.ci95)} %"
        yield EvalResult(
            task_type="image-text-to-text",
            task_name=_TASK,
            dataset_type=place if on_hub else summary.benchmark,
            dataset_name=summary.benchmark,
            dataset_revision=commit.partition(":")[0] if on_hub else identity.data,
            metric_type="accuracy",
            metric_name=f"mode {mode}{boxes}; {count}; {ends}",
            metric_value=round(figures.total.accuracy, 4),
        )


def _hub_datasets(run: TrainingRun | None) -> list[str] | None:
    """The hub ids that `p2r data` drew the samples of a training from."""
    report = Path(run.data.source).parent / "report.json" if run and run.data else None
    if report is None or not report.is_file():
        return None
    places = [str(source.get("place")) for source in read_json(report).get("sources", {}).values()]
    return [place.partition("@")[0] for place in places if "@" in place and is_hub_id(place)] or None


def _public(place: str) -> str:
    """A source of data or a model as others may read it: without folders and servers of this machine."""
    name = split_spec(place)[0].removeprefix("vllm:")
    if "://" in name:
        return name.partition("#")[2] or "a server"
    return Path(name).name if name.startswith(("/", ".", "~")) else name


def _shortened(recipe: str) -> str:
    """A recipe without the folders of its absolute paths, and without the hosts of its addresses."""
    hidden: Any = re.sub(r"(?<=[\s'\"=])/[^\n]*/", "…/", recipe)
    return re.sub(r"(?<=://)[^/\s'\"]+", "…", hidden)
