"""P2R as a model of lmms-eval, in the process of lmms-eval. The images are passed on as they are read.

    uv venv lmms-env && export VIRTUAL_ENV=$PWD/lmms-env
    uv pip install lmms-eval 'filelock<3.21' '.[local]' ./integrations
    lmms-env/bin/python -m lmms_eval --model p2r --tasks vstar_bench --batch_size 1 --output_path runs/lmms \
        --model_args model=hongxingli/P2R-4B,mode=p2r,concurrency=8

lmms-eval finds `MODEL` through the entry point `lmms_eval.models` of this package. Arguments: `model` and
`reasoner` (specs, docs/models.md), `mode`, `concurrency`; any other is an option of both models, for
example `thinking=off`. The reply is the letter for a question with options. A call that fails ends the run,
since lmms-eval would count it as a wrong answer.

Tried with lmms-eval 0.7.3 on 2026-11-27: the letters of `p2r eval` (docs/evaluation.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from tqdm import tqdm

from p2r import P2R, InputError, Question
from p2r.parsing import split_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lmms_eval.api.instance import Instance

MODEL = ModelManifest("p2r", chat_class_path="p2r_lmms_eval.P2RModel")


class P2RModel(lmms):
    """Answers the requests of a task with one `P2R`."""

    is_simple = False

    def __init__(
        self,
        model: str = "nano",
        reasoner: str | None = None,
        mode: str = "p2r",
        concurrency: int = 8,
        batch_size: object = None,  # lmms-eval always passes them
        max_batch_size: object = None,
        **options: object,
    ) -> None:
        super().__init__()
        del batch_size, max_batch_size
        more = [f"{name}={value}" for name, value in options.items()]
        specs = [spec and ",".join([spec, *more]) for spec in (model, reasoner)]
        self.mode: Any = mode
        self.p2r = P2R(specs[0] or "", reasoner=specs[1], concurrency=concurrency)

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """One reply for each request, in order."""
        answers = self.p2r.answer_many(self._questions(requests), self.mode)
        results = []
        for prediction in tqdm(answers, total=len(requests), desc="p2r"):
            if prediction.status == "failed":
                raise RuntimeError(f"{prediction.id}: {prediction.error}")
            tokens = TokenCounts(prediction.usage.prompt_tokens, prediction.usage.completion_tokens)
            results.append(GenerationResult(prediction.answer or "", tokens))
        return results

    def _questions(self, requests: Sequence[Instance]) -> Iterator[Question]:
        for request in requests:
            _, messages_of, _, doc_id, task, split = request.args
            messages = messages_of(self.task_dict[task][split][doc_id])
            parts = [part for turn in messages if turn["role"] == "user" for part in turn["content"]]
            if unknown := {part["type"] for part in parts} - {"text", "image"}:
                raise InputError(f"task {task}: {', '.join(sorted(unknown))} cannot be read, only images")
            text = "\n".join(part["text"] for part in parts if part["type"] == "text")
            images = [part["url"] for part in parts if part["type"] == "image"]
            body, choices = split_options(text)
            yield Question(images, body or text, choices, id=f"{task} {doc_id}")

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Not possible: two calls give a text, not the likelihood of one."""
        raise NotImplementedError("p2r answers questions; tasks of type loglikelihood need a language model")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Not possible: a question is asked once."""
        raise NotImplementedError("p2r answers one question at a time; this task has several rounds")
