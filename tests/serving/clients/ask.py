"""Sends questions through third-party clients, in an interpreter that has them; prints the replies as JSON.

    python ask.py http://127.0.0.1:8100/v1 src/p2r/demo/images [CLIENT …]

The images are the bundled scenes: the purple tag of the first shows a 9, two tags of the last add up to 5,
and the plate of the fourth says KE. A client that is not installed is left out.
"""

# The clients are installed in another environment.
# mypy: ignore-errors

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

URL, FOLDER = sys.argv[1], Path(sys.argv[2]).resolve()
IMAGE, SUM_IMAGE, CODE_IMAGE = (FOLDER / f"{name}.jpg" for name in ("1-read", "8-arithmetic", "4-code"))
ASKED = "Which digit is on the purple tag?"
OPTIONS = f"{ASKED}\nA. 9\nB. 3\nC. 5\nD. 4"
SECOND = f"{ASKED}\nA. 3\nB. 9\nC. 5\nD. 4"  # without an image
SUM = "What is the sum of the digits on the black tag and the green tag?"
CODE = "What is the code on the green plate?"

os.environ |= {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": URL, "NO_PROXY": "127.0.0.1,localhost"}


class Sum(BaseModel):
    """A number."""

    total: int


class Code(BaseModel):
    """A text."""

    code: str


class Choice(BaseModel):
    """One of the digits, and why."""

    reasoning: str = Field(description="Why.")
    answer: Literal["3", "4", "5", "9"]


class Crowd(BaseModel):
    """More than one answer."""

    digits: list[int]
    colors: list[str]


def data_uri(image: Path) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(image.read_bytes()).decode()


def content(text: str = OPTIONS, image: Path = IMAGE) -> list[dict]:
    return [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": data_uri(image)}}]


def turns(text: str = OPTIONS, image: Path = IMAGE) -> list[dict]:
    return [{"role": "user", "content": content(text, image)}]


def items(text: str = OPTIONS, image: Path = IMAGE) -> list[dict]:
    shown = {"type": "input_image", "image_url": data_uri(image), "detail": "auto"}
    return [{"role": "user", "content": [shown, {"type": "input_text", "text": text}]}]


def refusal(ask) -> str:
    try:
        return f"not refused: {ask()}"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def openai_chat() -> dict:
    import openai

    client = openai.OpenAI(max_retries=0)
    create = client.chat.completions.create
    first = create(model="p2r", messages=turns())
    second = create(
        model="p2r",
        messages=[*turns(), first.choices[0].message.model_dump(), {"role": "user", "content": SECOND}],
    )
    with client.chat.completions.stream(model="p2r", messages=turns(), response_format=Choice) as stream:
        streamed = stream.get_final_completion()
    tool = openai.pydantic_function_tool(Sum)
    called = create(model="p2r", messages=turns(SUM, SUM_IMAGE), tools=[tool], tool_choice="required")

    def parse(messages: list[dict], kind: type[BaseModel]) -> BaseModel:
        reply = client.chat.completions.parse(model="p2r", messages=messages, response_format=kind)
        return reply.choices[0].message.parsed

    nothing = {"stop": None, "logprobs": False, "tools": [], "tool_choice": "none", "logit_bias": {}}
    return {
        "ask": first.choices[0].message.content,
        "options": create(model="p2r-letter", messages=turns()).choices[0].message.content,
        "stream": "".join(
            chunk.choices[0].delta.content or ""
            for chunk in create(model="p2r", messages=turns(), stream=True)
            if chunk.choices
        ),
        "second turn": second.choices[0].message.content,
        "a choice": parse(turns(ASKED), Choice).answer,
        "a number": parse(turns(SUM, SUM_IMAGE), Sum).total,
        "a text": parse(turns(CODE, CODE_IMAGE), Code).code,
        "a choice, streamed": streamed.choices[0].message.parsed.answer,
        "tool": called.choices[0].message.tool_calls[0].function.arguments,
        "nothing asked": create(model="p2r", messages=turns(), **nothing).choices[0].message.content,
        "error": refusal(lambda: create(model="p2r", messages=turns(), n=2)),
        "not one value": refusal(
            lambda: client.chat.completions.parse(model="p2r", messages=turns(), response_format=Crowd)
        ),
    }


def openai_responses() -> dict:
    import openai

    client = openai.OpenAI(max_retries=0)
    question = items()
    first = client.responses.create(model="p2r", input=question, include=["reasoning.encrypted_content"])
    again = {"role": "user", "content": SECOND}
    with client.responses.stream(model="p2r", input=question, text_format=Choice) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_response()
    return {
        "ask": first.output_text,
        "thinking": "9" in first.output[0].summary[0].text,
        "tokens": first.usage.total_tokens > 0,
        "second turn": client.responses.create(
            model="p2r", input=[*question, *(item.model_dump() for item in first.output), again]
        ).output_text,
        "a choice": client.responses.parse(
            model="p2r", input=items(ASKED), text_format=Choice
        ).output_parsed.answer,
        "a number": client.responses.parse(
            model="p2r", input=items(SUM, SUM_IMAGE), text_format=Sum
        ).output_parsed.total,
        "a choice, streamed": streamed.output_parsed.answer,
        "events": "response.output_text.delta" in kinds and kinds[-1] == "response.completed",
        "tool": client.responses.create(
            model="p2r",
            input=items(SUM, SUM_IMAGE),
            tools=[openai.pydantic_function_tool(Sum)["function"] | {"type": "function"}],
            tool_choice={"type": "function", "name": "Sum"},
        )
        .output[-1]
        .arguments,
        "error": refusal(
            lambda: client.responses.create(model="p2r", input="Hi", previous_response_id="resp_1")
        ),
    }


def langchain() -> dict:
    from langchain_core.messages import AIMessage, HumanMessage
    from langchain_openai import ChatOpenAI

    def asked(model: ChatOpenAI) -> dict:
        question = HumanMessage(content())
        first = model.invoke([question])
        methods = ("json_schema", "function_calling", "json_mode")
        found = {
            method: model.with_structured_output(Choice if method != "json_mode" else None, method=method)
            for method in methods
        }
        return {
            "ask": first.text,
            "stream": "".join(chunk.text for chunk in model.stream([question])),
            "second turn": model.invoke([question, first, HumanMessage(SECOND)]).text,
            "json_schema": found["json_schema"].invoke([HumanMessage(content(ASKED))]).answer,
            "function_calling": found["function_calling"].invoke([question]).answer,
            "json_mode": found["json_mode"].invoke([question]),
            "tools bound, not forced": model.bind_tools([Sum]).invoke([question]).text,
            "a tool's turn": model.invoke(
                [question, AIMessage("", tool_calls=[{"id": "1", "name": "f", "args": {}}]), first, question]
            ).text,
            "error": refusal(lambda: model.bind(n=2).invoke([question])),
        }

    base = {"model": "p2r", "max_retries": 0, "temperature": 0}
    return {
        "chat": asked(ChatOpenAI(**base, use_responses_api=False)),
        "responses": asked(ChatOpenAI(**base, use_responses_api=True)),
    }


def pydantic_ai() -> dict:
    from pydantic_ai import Agent, BinaryContent, NativeOutput, PromptedOutput
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel

    question = [OPTIONS, BinaryContent(IMAGE.read_bytes(), media_type="image/jpeg")]
    bare = [ASKED, question[1]]
    added = [SUM, BinaryContent(SUM_IMAGE.read_bytes(), media_type="image/jpeg")]

    def asked(model) -> dict:
        first = Agent(model).run_sync(question)
        structured = Agent(model, output_type=Choice).run_sync(bare)
        return {
            "ask": first.output,
            "second turn": Agent(model).run_sync(SECOND, message_history=first.all_messages()).output,
            "output_type (tool)": structured.output.answer,
            "output_type, second turn": Agent(model, output_type=int)
            .run_sync(SECOND, message_history=structured.all_messages())
            .output,
            "int": Agent(model, output_type=int).run_sync(added).output,
            "NativeOutput": Agent(model, output_type=NativeOutput(Choice)).run_sync(question).output.answer,
            "PromptedOutput": Agent(model, output_type=PromptedOutput(Choice))
            .run_sync(question)
            .output.answer,
            "error": refusal(lambda: Agent(model, output_type=Crowd).run_sync(question)),
        }

    async def streamed() -> str:
        async with Agent(OpenAIChatModel("p2r")).run_stream(question) as result:
            return await result.get_output()

    import asyncio

    return {
        "chat": asked(OpenAIChatModel("p2r")) | {"stream": asyncio.run(streamed())},
        "responses": asked(OpenAIResponsesModel("p2r")),
    }


def instructor() -> dict:
    import instructor as library
    import openai

    found: dict = {}
    for name in ("TOOLS", "TOOLS_STRICT", "JSON", "JSON_SCHEMA", "RESPONSES_TOOLS"):
        mode = getattr(library.Mode, name, None)
        if mode is None:
            continue
        try:
            client = library.from_openai(openai.OpenAI(max_retries=0), mode=mode)
            messages = turns()
            if name == "RESPONSES_TOOLS":
                messages = items()
            create = client.create if hasattr(client, "create") else client.chat.completions.create
            found[name] = create(model="p2r", messages=messages, response_model=Choice, max_retries=0).answer
        except Exception as error:
            found[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    client = library.from_openai(openai.OpenAI(max_retries=0))
    found["error"] = refusal(
        lambda: client.chat.completions.create(
            model="p2r", messages=turns(), response_model=Crowd, max_retries=0
        )
    )
    return found


def litellm() -> dict:
    import litellm as library

    library.suppress_debug_info = True
    common = {"model": "openai/p2r", "api_base": URL, "api_key": "none", "num_retries": 0}
    first = library.completion(**common, messages=turns())
    question = items()
    events = list(library.responses(**common, input=question, stream=True))
    return {
        "ask": first.choices[0].message.content,
        "thinking": "9" in first.choices[0].message.reasoning_content,
        "stream": "".join(
            chunk.choices[0].delta.content or ""
            for chunk in library.completion(**common, messages=turns(), stream=True)
        ),
        "second turn": library.completion(
            **common,
            messages=[*turns(), first.choices[0].message.model_dump(), {"role": "user", "content": SECOND}],
        )
        .choices[0]
        .message.content,
        "response_format": json.loads(
            library.completion(**common, messages=turns(), response_format=Choice).choices[0].message.content
        )["answer"],
        "responses": library.responses(**common, input=question).output[-1].content[0].text,
        "responses, streamed": events[-1].response.output[-1].content[0].text,
        "error": refusal(lambda: library.completion(**common, messages=turns(), n=2)),
    }


def llm() -> dict:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "extra-openai-models.yaml").write_text(
            f"- model_id: p2r\n  model_name: p2r\n  api_base: {URL}\n  api_key_name: p2r\n"
            "  vision: true\n  supports_schema: true\n  supports_tools: true\n"
        )
        environment = os.environ | {"LLM_USER_PATH": folder, "P2R_KEY": "none"}
        command = [str(Path(sys.executable).parent / "llm")]

        def run(*words: str) -> str:
            done = subprocess.run(
                [*command, *words, "--key", "none"],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            return (done.stdout or done.stderr).strip()[-200:]

        return {
            "ask": run("-m", "p2r", OPTIONS, "-a", str(IMAGE), "--no-stream"),
            "stream": run("-m", "p2r", OPTIONS, "-a", str(IMAGE)),
            "second turn": run("-c", SECOND),
            "schema": run("-m", "p2r", SUM, "-a", str(SUM_IMAGE), "--schema", "total int"),
            "error": run("-m", "p2r", "Hello"),
        }


def inspect_ai() -> dict:
    from inspect_ai import Task
    from inspect_ai import eval as evaluate
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageUser, ContentImage, ContentText, get_model
    from inspect_ai.scorer import choice
    from inspect_ai.solver import multiple_choice

    shown = [ContentImage(image=data_uri(IMAGE)), ContentText(text=ASKED)]
    sample = Sample(input=[ChatMessageUser(content=shown)], choices=["9", "3", "5", "4"], target="A")
    model = get_model("openai-api/p2r/p2r", base_url=URL, api_key="none")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, solver in {"ANSWER": multiple_choice(), "ANSWER, cot": multiple_choice(cot=True)}.items():
            task = Task(dataset=[sample], solver=solver, scorer=choice())
            (log,) = evaluate(task, model=model, display="none", log_dir=folder)
            found[name] = log.samples[0].scores["choice"].value == "C"
    return found


CLIENTS = {
    "openai": (openai_chat, "openai"),
    "openai responses": (openai_responses, "openai"),
    "langchain-openai": (langchain, "langchain_openai"),
    "pydantic-ai": (pydantic_ai, "pydantic_ai"),
    "instructor": (instructor, "instructor"),
    "litellm": (litellm, "litellm"),
    "llm": (llm, "llm"),
    "inspect_ai": (inspect_ai, "inspect_ai"),
}

if __name__ == "__main__":
    wanted = sys.argv[3:] or [name for name, (_, module) in CLIENTS.items() if find_spec(module)]
    print(json.dumps({name: CLIENTS[name][0]() for name in wanted}))
