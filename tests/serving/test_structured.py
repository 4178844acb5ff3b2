"""Structured output: the schemas of clients, their questions, and the JSON of the reply."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any, Literal

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from p2r.serving.errors import APIError
from p2r.serving.structured import Unfit, find_schema, read_form
from tests.serving.live_server import CHOICES, LiveServer, body, both_roles, refused, user

NO_OPTIONS = "Which color is the bus?"


class Color(Enum):
    blue = "blue"
    red = "red"


class Nested(BaseModel):
    color: Color


def model(**fields: Any) -> dict[str, Any]:
    """The JSON schema that pydantic makes of some fields."""
    made: Any = type(
        "Answer",
        (BaseModel,),
        {"__annotations__": {name: kind for name, (kind, _) in fields.items()}}
        | {name: default for name, (_, default) in fields.items() if default is not ...},
    )
    return made.model_json_schema()


def written(schema: Any, answer: str | None, options: tuple[str, ...] = (), text: str = "") -> Any:
    """The JSON of an answer, with the thinking "Because."."""
    form = read_form(schema, "schema", options)
    return json.loads(form.write(answer, text or answer or "", "Because."))


def refusal(schema: Any, options: tuple[str, ...] = ()) -> APIError:
    with pytest.raises(APIError) as error:
        read_form(schema, "schema", options)
    assert error.value.status == 400
    return error.value


# A choice.


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": ["blue", "red"]},
        {"type": "string", "enum": ["blue", "red"]},
        {"anyOf": [{"const": "blue"}, {"const": "red"}]},
        {"oneOf": [{"type": "string", "enum": ["blue"]}, {"type": "string", "enum": ["red"]}]},
        {"$defs": {"Color": {"enum": ["blue", "red"]}}, "$ref": "#/$defs/Color"},
        {
            "definitions": {"C": {"enum": ["blue", "red"]}},
            "allOf": [{"$ref": "#/definitions/C"}],
            "title": "x",
        },
    ],
)
def test_an_enum_makes_the_options_of_the_question(schema: Any) -> None:
    form = read_form(schema, "schema", ())
    assert (form.answer_type, form.choices) == ("choice", ("blue", "red"))
    assert written(schema, "B") == "red"


@pytest.mark.parametrize(
    "values", [["blue", "red"], ["RED", "Blue", "green"], ["A", "B"], ["B", "A", "C"], ["A. blue", "(B) red"]]
)
def test_an_enum_meets_the_options_in_the_text(values: list[str]) -> None:
    assert read_form({"enum": values}, "schema", ("blue", "red")).choices == ()
    found = written({"enum": values}, "B", ("blue", "red"))
    assert found in values
    assert found.lower().strip("()b. ") in ("red", "")


def test_other_choices() -> None:
    assert written({"type": "boolean"}, "A") is True
    assert read_form({"type": "boolean"}, "schema", ()).choices == ("yes", "no")
    assert written({"type": "boolean"}, "A", ("No", "Yes.")) is False
    assert written({"enum": [1, 2.5, 30]}, "B") == 2.5
    assert written({"enum": ["a", "b", None]}, "A") == "a"
    assert written({"enum": ["a", "b", None]}, None) is None
    assert written({"type": "integer"}, "B", ("6", "7 buses")) == 7
    assert written({"type": "string"}, "B", ("blue", "red"), "B. red") == "B. red"


# A number, a text.


@pytest.mark.parametrize(
    ("kind", "answer", "value"),
    [
        *(("integer", "4", 4), ("integer", "There are 4 buses.", 4), ("integer", "1,200", 1200)),
        *(("integer", "three", 3), ("number", "2.5", 2.5), ("number", "-3", -3), ("number", "50%", 50)),
    ],
)
def test_a_number(kind: str, answer: str, value: float) -> None:
    assert read_form({"type": kind}, "schema", ()).answer_type == "number"
    found = written({"type": kind}, answer)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        *(({"type": "integer"}, "2.5"), ({"type": "number"}, "4 or 5"), ({"type": "number"}, "many")),
        *(({"type": "integer", "maximum": 5}, "6"), ({"type": "number", "exclusiveMinimum": 0}, "0")),
        *(({"type": "string", "maxLength": 3}, "long"), ({"type": "string", "minLength": 9}, "short")),
        *(({"type": "string"}, None), ({"enum": ["a", "b"]}, None), (None, None)),
    ],
)
def test_an_answer_that_does_not_fit_is_none(schema: Any, answer: str | None) -> None:
    with pytest.raises(Unfit):
        written(schema, answer)


def test_a_text() -> None:
    assert written({"type": "string"}, "a \N{BUS}") == "a \N{BUS}"
    assert written({}, "red") == "red"
    assert written(None, "red") == {"answer": "red"}
    assert written({"type": "object"}, "red") == {"answer": "red"}


# An object around it.


@pytest.mark.parametrize(
    ("schema", "answer", "value"),
    [
        (model(color=(Color, ...)), "B", {"color": "red"}),
        (
            model(reasoning=(str, ...), answer=(Literal["x", "y"], ...)),
            "A",
            {"reasoning": "Because.", "answer": "x"},
        ),
        (
            model(explanation=(str | None, ...), count=(int, ...)),
            "4",
            {"explanation": "Because.", "count": 4},
        ),
        (model(inner=(Nested, ...)), "A", {"inner": {"color": "blue"}}),
        (model(answer=(int, ...), note=(str | None, None), more=(list[str], [])), "4", {"answer": 4}),
        (model(answer=(int, ...), note=(str | None, ...)), "4", {"answer": 4, "note": None}),
        (model(kind=(Literal["bus"], ...), color=(Color, ...)), "A", {"kind": "bus", "color": "blue"}),
        (model(answer=(int | None, ...)), None, {"answer": None}),
        (model(answer=(Color | None, None), hint=(str, "")), "B", {"answer": "red"}),
        (model(count=(int | str, ...)), "4", {"count": 4}),
        (model(explanation=(str, ...)), "It is red.", {"explanation": "It is red."}),
        (model(visible=(bool, ...)), "B", {"visible": False}),
        (model(length=(float, Field(gt=0))), "2.5", {"length": 2.5}),
        ({"properties": {"result": {"type": "string"}}}, "red", {"result": "red"}),
        ({"properties": {"kind": {"enum": ["bus"]}, "n": {"type": "integer"}}}, "4", {"kind": "bus", "n": 4}),
        (model(count=(int | None, ...)), "many", {"count": None}),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "4", {"answer": 4}),
    ],
)
def test_one_property_gets_the_answer(schema: Any, answer: str | None, value: Any) -> None:
    assert written(schema, answer) == value


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        (model(colors=(list[str], ...)), "schema.properties.colors"),
        (model(a=(int, ...), b=(int, ...)), "schema.properties.b"),
        (model(a=(int, 0), b=(int, 0)), "schema"),
        ({"type": "array", "items": {}}, "schema"),
        ({"type": "null"}, "schema"),
        ({"type": "object", "properties": {}}, "schema"),
        ({"type": "object", "additionalProperties": False}, "schema"),
        ({"type": "string", "pattern": "^x"}, "schema.pattern"),
        ({"type": "string", "format": "date"}, "schema.format"),
        ({"enum": ["one"]}, "schema"),
        ({"enum": []}, "schema.enum"),
        ({"enum": [[1], [2]]}, "schema"),
        ({"enum": ["red", "Red"]}, "schema"),
        ({"enum": [str(number) for number in range(27)]}, "schema"),
        ({"$ref": "#/$defs/none"}, "schema"),
        ({"$ref": "https://example.org/schema"}, "schema"),
        ({"$ref": "#"}, "schema"),
        ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, "schema"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, None),
        ({"type": "object", "properties": [1], "required": ["a"]}, "schema"),
        ({"type": "object", "properties": {"a": 5}}, "schema.properties.a"),
        ("string", "schema"),
        ([], "schema"),
    ],
)
def test_what_is_not_one_value_is_refused(schema: Any, path: str | None) -> None:
    error = refusal(schema)
    assert error.param == path or path is None
    assert len(error.message) < 400


@pytest.mark.parametrize(
    "schema", [{"enum": ["cat", "dog"]}, {"type": "boolean"}, {"type": "number"}, {"enum": ["A", "C"]}]
)
def test_what_the_options_in_the_text_contradict_is_refused(schema: Any) -> None:
    assert "options in the question" in refusal(schema, ("blue", "red")).message


def test_a_schema_that_branches_without_end_takes_no_time() -> None:
    branch: dict[str, Any] = {"anyOf": [{"$ref": "#/$defs/a"}] * 50}
    assert "schema" in refusal({"$defs": {"a": branch}, **branch}).message


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(allow_nan=False),
    st.sampled_from(["red", "", "#", "a"]),
)
kinds = st.sampled_from(["object", "string", "number", "integer", "boolean", "array", "null", "x"])
schemas = st.recursive(
    st.one_of(leaves, st.fixed_dictionaries({"type": kinds}), st.builds(dict, enum=st.lists(leaves))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "answer", "reasoning"]), inner).map(
            lambda found: {"type": "object", "properties": found, "required": list(found)[:1]}
        ),
        st.fixed_dictionaries(
            {},
            optional={
                "anyOf": st.lists(inner, max_size=3),
                "oneOf": inner,
                "allOf": st.lists(inner, max_size=2),
                "properties": inner,
                "required": inner,
                "enum": inner,
                "const": inner,
                "type": inner,
                "$ref": st.sampled_from(["#", "#/properties/a", "#/x", "", 5]),
                "maximum": leaves,
                "maxLength": leaves,
                "nullable": leaves,
                "items": inner,
                "pattern": leaves,
            },
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(schemas, st.sampled_from([(), ("yes", "no"), ("1", "2")]), st.sampled_from(["A", "B", "4", "", None]))
def test_any_schema_is_read_or_refused(schema: Any, options: tuple[str, ...], answer: str | None) -> None:
    try:
        form = read_form(schema, "schema", options)
    except APIError:
        return
    if answer is not None and (options or form.choices):
        answer = "A"
    try:
        json.loads(form.write(answer, "text", "Because."))
    except Unfit:
        # An option in the text may be longer than a schema allows.
        assert answer is None or form.answer_type != "choice" or "maxLength" in str(schema)


# Over HTTP.


@pytest.mark.parametrize("strict", [True, False])
def test_a_json_schema_is_answered(strict: bool) -> None:
    schema = {"name": "x", "schema": model(reasoning=(str, ...), color=(Color, ...)), "strict": strict}
    with LiveServer() as server:
        reply = server.ask(body(NO_OPTIONS, response_format={"type": "json_schema", "json_schema": schema}))
        assert f"{NO_OPTIONS}\nA. blue\nB. red" in server.model.calls[-1].text
    choice = reply.json()["choices"][0]
    assert json.loads(choice["message"]["content"]) == {
        "reasoning": "The bus is red, the sign says so.",
        "color": "red",
    }
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["p2r"]["choices"] == ["blue", "red"]


def test_any_json_object_is_the_answer_in_one() -> None:
    with LiveServer() as server:
        reply = server.ask(body(response_format={"type": "json_object"}, stop=["r"])).json()
    message = reply["choices"][0]["message"]
    assert json.loads(message["content"]) == {"answer": "B. red"}
    assert message["p2r"]["ignored"] == ["stop"]


@pytest.mark.parametrize(
    "system",
    [
        "JSON schema:\n{schema}\nYou MUST answer with a JSON object that matches the JSON schema above.",
        "Speak of buses.\n\nAs an expert, match this {{schema}}:\n\n{schema}\n\nReturn an instance.",
    ],
)
def test_a_schema_that_is_written_in_a_prompt_counts(system: str) -> None:
    words = system.replace("{schema}", json.dumps(model(color=(Color, ...)), indent=2))
    with LiveServer() as server:
        messages = [{"role": "system", "content": words}, user(NO_OPTIONS)]
        reply = server.ask(body(response_format={"type": "json_object"}) | {"messages": messages}).json()
        assert json.loads(reply["choices"][0]["message"]["content"]) == {"color": "red"}
        call = server.model.calls[-1]
        assert "properties" not in call.text + str(call.messages[0].content)
        assert ("Speak of buses." in str(call.messages[0].content)) == ("buses" in system)
        asked = f"Reply as JSON of this schema: {json.dumps(model(color=(Color, ...)))}\n{NO_OPTIONS}"
        reply = server.ask(body(asked, response_format={"type": "json_object"})).json()
        assert json.loads(reply["choices"][0]["message"]["content"]) == {"color": "red"}
        assert f"Question: {NO_OPTIONS}\nA. blue" in server.model.calls[-1].text


def test_of_several_schemas_in_a_prompt_the_last_one_counts() -> None:
    example, real = {"properties": {"foo": {"type": "array"}}}, model(count=(int, ...))
    shown = f"For example, {json.dumps(example)} has {{x}}.\n\nThe schema:\n```\n{json.dumps(real)}\n```"
    found = find_schema(f"Speak.\n\n{shown}")
    assert found
    assert (found.before, found.schema) == ("Speak.", real)


def test_a_schema_may_be_given_next_to_json_object() -> None:
    wanted = {"type": "json_object", "schema": model(color=(Color, ...))}
    with LiveServer() as server:
        reply = server.ask(body(NO_OPTIONS, response_format=wanted)).json()
    assert json.loads(reply["choices"][0]["message"]["content"]) == {"color": "red"}


def test_a_text_without_a_schema_has_none() -> None:
    assert find_schema('Reply as {"answer": 1} or {not json} ' + "{" * 5_000) is None


@pytest.mark.parametrize(
    "choice",
    ["required", {"type": "function", "function": {"name": "pick"}}, {"type": "function", "name": "pick"}],
)
def test_a_forced_function_is_called_with_the_answer(choice: Any) -> None:
    tool = {"type": "function", "function": {"name": "pick", "parameters": model(color=(Color, ...))}}
    with LiveServer() as server:
        reply = server.ask(body(NO_OPTIONS, tools=[tool], tool_choice=choice)).json()["choices"][0]
        assert server.ask(body(tools=[tool])).json()["choices"][0]["message"]["content"] == "B. red"
        with server.openai() as client:
            asked = {"model": "p2r", "messages": [user(NO_OPTIONS)], "tools": [tool], "tool_choice": choice}
            with client.chat.completions.stream(**asked) as stream:
                streamed = stream.get_final_completion().choices[0]
    (call,) = reply["message"]["tool_calls"]
    assert reply["finish_reason"] == streamed.finish_reason == "tool_calls"
    assert reply["message"]["content"] is None
    assert call["function"]["name"] == streamed.message.tool_calls[0].function.name == "pick"
    assert json.loads(call["function"]["arguments"]) == {"color": "red"}
    assert json.loads(streamed.message.tool_calls[0].function.arguments) == {"color": "red"}


@pytest.mark.parametrize(
    ("tools", "choice", "param"),
    [
        ([], "required", "tool_choice"),
        (["f", "g"], "required", "tool_choice"),
        (["f"], {"type": "function", "function": {"name": "g"}}, "tool_choice"),
        (["f"], "f", "tool_choice"),
        (["f"], "required", "tools.0.function.parameters.properties.b"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused(tools: list[str], choice: Any, param: str) -> None:
    parameters = model(a=(int, ...), b=(int, ...))
    given = [{"type": "function", "function": {"name": name, "parameters": parameters}} for name in tools]
    with LiveServer() as server:
        refused(server.ask(body(tools=given, tool_choice=choice)), 400, param)


def test_no_answer_is_a_refusal() -> None:
    with (
        LiveServer(both_roles("<think>Hm.</think><answer>A or B</answer>")) as server,
        server.openai() as client,
    ):
        parsed = client.chat.completions.parse(
            model="p2r", messages=[user(NO_OPTIONS)], response_format=Nested
        )
        message = parsed.choices[0].message
        assert (message.parsed, message.content) == (None, None)
        assert "names more than one option: A, B" in message.refusal
        with client.chat.completions.stream(
            model="p2r", messages=[user(NO_OPTIONS)], response_format=Nested
        ) as stream:
            streamed = stream.get_final_completion().choices[0].message
        assert streamed.refusal == message.refusal
        tool = openai.pydantic_function_tool(Nested)
        called = client.chat.completions.create(
            model="p2r", messages=[user(NO_OPTIONS)], tools=[tool], tool_choice="required"
        ).choices[0]
        assert (called.message.tool_calls, called.finish_reason) == (None, "stop")
        assert called.message.refusal == message.refusal


def test_the_options_in_the_text_and_a_schema_of_letters() -> None:
    with LiveServer() as server, server.openai() as client:
        kind = type("Letter", (BaseModel,), {"__annotations__": {"letter": Literal["A", "B", "C"]}})
        parsed = client.chat.completions.parse(model="p2r", messages=[user(CHOICES)], response_format=kind)
    assert parsed.choices[0].message.parsed.letter == "B"
