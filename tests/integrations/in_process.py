"""Asks nano through adapters of integrations/, in an interpreter that has their libraries; prints JSON.

    python in_process.py samples.jsonl [LIBRARY …]

For each library that is installed: the answers by id, and the number of right ones where it counts them.
"""

# The libraries are installed in another environment.
# mypy: ignore-errors

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from p2r import read_samples

SAMPLES = Path(sys.argv[1])


def inspect_ai() -> dict:
    """The task and the model, and the model with inspect_ai's own `multiple_choice`."""
    from inspect_ai import Task
    from inspect_ai import eval as evaluate
    from inspect_ai.scorer import choice
    from inspect_ai.solver import multiple_choice
    from p2r_inspect import questions

    task = Path(__file__).parents[2] / "integrations" / "p2r_inspect.py"
    with tempfile.TemporaryDirectory() as folder:
        silent = {"model": "p2r/nano", "display": "none", "log_dir": folder}
        (log,) = evaluate(f"{task}@questions", task_args={"data": str(SAMPLES)}, **silent)
        assert log.status == "success", log.error
        scores = {str(sample.id): sample.scores["p2r_score"] for sample in log.samples}
        own = questions(data=str(SAMPLES))
        asked = [sample for sample in own.dataset if sample.metadata["choices"]][:2]
        for sample in asked:
            sample.choices = sample.metadata["choices"]
            sample.input[0].content[-1].text = sample.metadata["text"]
        (theirs,) = evaluate(Task(dataset=asked, solver=multiple_choice(), scorer=choice()), **silent)
        # Samples are read from the log when they are used.
        return {
            "answers": {name: score.answer for name, score in scores.items()},
            "right": sum(score.value == "C" for score in scores.values()),
            "accuracy": log.results.scores[0].metrics["accuracy"].value,
            "multiple_choice": {str(sample.id): sample.scores["choice"].answer for sample in theirs.samples},
        }


def llm() -> dict:
    import llm as library

    os.environ["LLM_USER_PATH"] = tempfile.gettempdir()
    model = library.get_model("p2r/nano")
    answers = {}
    for sample in read_samples(SAMPLES):
        asked = sample.question
        text = "\n".join([asked.text, *(asked.option(letter) for letter in asked.letters)])
        kind = {} if asked.choices else {"type": asked.answer_type}
        shown = library.Attachment(path=asked.image)
        reply = model.prompt(text, attachments=[shown], **kind).text()
        answers[asked.id] = reply.partition(".")[0] if asked.choices else reply
    return {"answers": answers}


def from_the_guide(word: str) -> dict:
    """What the block of docs/clients.md that contains a word defines."""
    guide = (Path(__file__).parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")
    (block,) = [found for found in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if word in found]
    defined: dict = {}
    exec(block, defined)
    return defined


def langchain() -> dict:
    defined = from_the_guide("langchain_core.tools")
    asked = [{"image": one.image, "question": one.text} for one in first_questions()]
    answers = [defined["look_closely"].invoke(asked[0]), *defined["answers"].batch(asked[1:])]
    return {"answers": dict(zip([one.id for one in first_questions()], answers, strict=True))}


def pydantic_ai() -> dict:
    """The tool is called by a model that is a function: the first reply calls it, the second repeats it."""
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel

    agent = from_the_guide("from pydantic_ai")["agent"]
    answers = {}
    for one in first_questions():

        def reply(messages, info, one=one):
            (tool,) = info.function_tools
            if len(messages) == 1:
                called = ToolCallPart(tool.name, {"image": one.image, "question": one.text})
                return ModelResponse(parts=[called])
            return ModelResponse(parts=[TextPart(messages[-1].parts[0].content)])

        answers[one.id] = agent.run_sync(one.text, model=FunctionModel(reply)).output
    return {"answers": answers}


def first_questions() -> list:
    """Two questions without options and of no type, as a tool asks them."""
    return [one.question for one in read_samples(SAMPLES) if one.question.answer_type == "free"][:2]


LIBRARIES = {
    "inspect_ai": (inspect_ai, "inspect_ai"),
    "llm": (llm, "llm"),
    "langchain": (langchain, "langchain_core"),
    "pydantic_ai": (pydantic_ai, "pydantic_ai"),
}

if __name__ == "__main__":
    wanted = sys.argv[2:] or [name for name, (_, module) in LIBRARIES.items() if find_spec(module)]
    print(json.dumps({name: LIBRARIES[name][0]() for name in wanted}))
