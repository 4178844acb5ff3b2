"""P2R as a model of VLMEvalKit, in its process: this starts its `run.py` with three models more.

    git clone https://github.com/open-compass/VLMEvalKit && uv venv vlm-env
    VIRTUAL_ENV=vlm-env uv pip install -r VLMEvalKit/requirements.txt rouge_score '.[local]'
    cd VLMEvalKit
    ../vlm-env/bin/python ../integrations/p2r_vlmevalkit.py --p2r hongxingli/P2R-4B \
        --model p2r p2r-direct --data VStarBench --judge exact_matching --api-nproc 8 --work-dir ../runs/vlm

`--p2r` is the model (a spec, docs/models.md; default nano); all other arguments are those of run.py. The
models `p2r`, `p2r-think` and `p2r-direct` are the three modes. The reply is the letter for a question with
options, and `no answer` without one. A call that fails is VLMEvalKit's own failure: the same command with
`--reuse` asks it again. Images are read from the files that VLMEvalKit writes, without loss.

Tried with VLMEvalKit e8e78f0 on 2026-11-27: the letters of `p2r eval` (docs/evaluation.md).
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from functools import cache, partial
from typing import Any

sys.path.insert(0, os.getcwd())  # noqa: PTH109  (VLMEvalKit is no package: it runs from its checkout)

from vlmeval.api.base import BaseAPI
from vlmeval.config import supported_VLM

from p2r import P2R, P2RError
from p2r.parsing import split_options

open_p2r = cache(P2R)  # the modes share one


class P2RModel(BaseAPI):
    """Answers from several threads, as VLMEvalKit calls it."""

    is_api = True

    def __init__(self, model: str, mode: Any) -> None:
        super().__init__(retry=1, wait=0, verbose=False)  # p2r repeats calls itself
        self.p2r, self.mode = open_p2r(model), mode

    def generate_inner(self, inputs: list[dict[str, str]], **_: object) -> tuple[int, str, str]:
        """The return code (0 for an answer), the answer, and a line for the log."""
        text = "\n".join(part["value"] for part in inputs if part["type"] == "text")
        images = [part["value"] for part in inputs if part["type"] == "image"]
        body, choices = split_options(text)
        try:
            prediction = self.p2r.answer(images, body or text, choices, mode=self.mode)
        except P2RError as error:
            return -1, f"{self.fail_msg} {error}", str(error)
        return 0, prediction.answer or "no answer", ""


def main() -> None:
    """Add the models and run VLMEvalKit's own program."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--p2r", default="nano", metavar="SPEC")
    found, theirs = parser.parse_known_args()
    for name, mode in (("p2r", "p2r"), ("p2r-think", "think"), ("p2r-direct", "direct")):
        supported_VLM[name] = partial(P2RModel, found.p2r, mode)
    sys.argv = ["run.py", *theirs]
    runpy.run_path("run.py", run_name="__main__")


if __name__ == "__main__":
    main()
