"""Structured output: from a JSON schema to the form of the question and the JSON of the answer.

A question has one answer, so a schema must come down to one value: a choice (`enum`, a boolean), a number or
a text, alone or as the one required property of an object. In such an object a text property named like
`reasoning` gets the thinking, constants are filled in, and optional properties are left out. Other schemas
are refused with the path of the field at fault.
"""

from __future__ import annotations

import json
import operator
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from p2r.parsing.numbers import read_quantity
from p2r.parsing.options import without_mark
from p2r.serving.errors import APIError, invalid_field
from p2r.types import LETTERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from p2r.types import AnswerType

    Schema = dict[str, Any]

T = TypeVar("T", str, float)

_SERVED = (
    "served is one value: a choice (enum, boolean), a number or a text, alone or as the one required "
    "property of an object, beside a text named reasoning"
)
_MAX_DEPTH = 16
_MAX_SCHEMAS = 2_000  # subschemas of one schema
_MAX_BRACES = 32  # in a prompt, at which a schema may begin
_SCHEMA_KEYS = frozenset(("properties", "$ref", "enum"))
_THINKING = re.compile(
    r"(?:(?:step_by_step|chain_of)_?)?(?:reason(?:ing)?s?|thoughts?|thinking|explanation|rationale|analysis"
    r"|justification)(?:_?(?:steps?|process|text))?",
    re.IGNORECASE,
)
_ANSWER = re.compile(r"(?:final_?)?(?:answer|result|response|value|output|choice|label)", re.IGNORECASE)
_BOOLEANS = {"yes": True, "true": True, "no": False, "false": False}
_BOUNDS: dict[str, Callable[[Any, float], bool]] = {
    "minimum": operator.ge,
    "maximum": operator.le,
    "exclusiveMinimum": operator.gt,
    "exclusiveMaximum": operator.lt,
    "minLength": lambda text, bound: len(text) >= bound,
    "maxLength": lambda text, bound: len(text) <= bound,
}


class Unfit(Exception):  # noqa: N818  (an outcome, not an error)
    """The answer cannot be written in the requested form; the message is the reason."""


class Given(NamedTuple):
    """What a form is filled with: the answer of a prediction, its text without a form, and the thinking."""

    answer: str | None
    text: str
    thinking: str


@dataclass(frozen=True, slots=True)
class Form:
    """The requested form of an answer.

    Attributes:
        answer_type: of the question.
        choices: the options of the question if the schema lists them, else `()`.
        value: the JSON value for an answer. Raises `Unfit`.
    """

    answer_type: AnswerType
    choices: tuple[str, ...]
    value: Callable[[Given], Any]

    def write(self, answer: str | None, text: str, thinking: str) -> str:
        """The JSON text of an answer; see `Given`.

        Raises:
            Unfit: there is no answer, or it does not have this form.
        """
        return json.dumps(self.value(Given(answer, text, thinking)), ensure_ascii=False)


def read_form(schema: Any, path: str, options: tuple[str, ...]) -> Form:
    """The form that a schema requests.

    Args:
        schema: the JSON schema; None for any JSON object, which is `{"answer": text}`.
        path: of its field.
        options: those in the text of the question.

    Raises:
        APIError: it does not come down to one value; names the field.
    """
    return _SchemaReader(schema, options).form({"type": "object"} if schema is None else schema, path, 0)


class WrittenSchema(NamedTuple):
    """A JSON schema in a prompt, and the text around it without the paragraph that introduces it."""

    before: str
    schema: Any
    after: str


def find_schema(text: str) -> WrittenSchema | None:
    """The last JSON schema that is written in a prompt, if there is one.

    Clients without another way write it there, some after an example.
    """
    written, end = None, 0
    for _ in range(_MAX_BRACES):
        start = text.find("{", end)
        if start < 0:
            break
        end = start + 1
        try:
            found, behind = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and not _SCHEMA_KEYS.isdisjoint(found):
            introduction = text[:start].rstrip()
            before = written.before if written else introduction[: max(introduction.rfind("\n\n"), 0)].strip()
            written, end = WrittenSchema(before, found, text[behind:].strip()), behind
    return written


def forced_tool(tools: Any, choice: Any) -> tuple[str, Any, str] | None:
    """The function that `tool_choice` forces: the path of its schema, the schema, its name; None for none.

    Chat nests the function (`{"type": "function", "function": {"name": …}}`), responses does not.

    Raises:
        APIError: the choice is ambiguous, or there is no such function.
    """
    allowed = choice.get("allowed_tools", choice) if isinstance(choice, dict) else {}
    mode = allowed.get("mode") if isinstance(allowed, dict) else choice
    if choice in (None, False, "", "none", "auto") or mode == "auto":
        return None
    functions = [_function(tool) for tool in tools] if isinstance(tools, list) else []
    found = list(range(len(functions)))
    if choice not in ("required", "any") and mode != "required":
        name = _function(choice).get("name")
        found = [index for index in found if name and functions[index].get("name") == name]
    if len(found) > 1:
        raise invalid_field("tool_choice", "several functions fit: name the one that takes the answer")
    if not found or not isinstance(functions[found[0]].get("name"), str):
        raise invalid_field("tool_choice", "there is no such function in tools")
    index, function = found[0], functions[found[0]]
    within = "function.parameters" if "function" in tools[index] else "parameters"
    return f"tools.{index}.{within}", function.get("parameters") or {"properties": {}}, function["name"]


def _function(tool: Any) -> Schema:
    if not isinstance(tool, dict):
        return {}
    inner = tool.get("function")
    return inner if isinstance(inner, dict) else tool


class _SchemaReader:
    """Reads one schema, given the options in the text of the question."""

    def __init__(self, root: Any, options: tuple[str, ...]) -> None:
        self._root = root
        self._options = options
        self._left = _MAX_SCHEMAS

    def form(self, schema: Any, path: str, depth: int) -> Form:
        return self._form_of(self._alternatives(schema, path, depth), path, depth)

    def _alternatives(self, schema: Any, path: str, depth: int) -> list[Schema]:
        """The schemas of which one has to hold, without references, unions and lists of types."""
        self._left -= 1
        if depth > _MAX_DEPTH or self._left < 0:
            raise invalid_field(path, "the schema is too large, or refers to itself")
        if not isinstance(schema, dict):
            raise invalid_field(path, "this is not a JSON schema")
        members = schema.get("anyOf") or schema.get("oneOf")
        inner, kinds, parts = schema.get("allOf"), schema.get("type"), None
        if "$ref" in schema:
            parts = [{**self._resolved(schema["$ref"], path), **_without(schema, "$ref")}]
        elif isinstance(inner, list) and len(inner) == 1 and isinstance(inner[0], dict):
            parts = [{**inner[0], **_without(schema, "allOf")}]
        elif schema.get("nullable") is True:
            parts = [_without(schema, "nullable"), {"type": "null"}]
        elif "const" in schema or schema.get("enum") is not None:
            return [schema]
        elif isinstance(members, list):
            parts = members
        elif isinstance(kinds, list):
            parts = [{**schema, "type": kind} for kind in kinds]
        if parts is None:
            return [schema]
        return [found for part in parts for found in self._alternatives(part, path, depth + 1)]

    def _resolved(self, pointer: Any, path: str) -> Schema:
        found = self._root
        steps = pointer.split("/") if isinstance(pointer, str) else [""]
        for step in steps[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        if steps[0] != "#" or not isinstance(found, dict):
            raise invalid_field(path, "$ref must point into this schema, as #/$defs/NAME")
        return found

    def _form_of(self, alternatives: list[Schema], path: str, depth: int) -> Form:
        values = _constants(alternatives, path)
        if values is not None:
            return self._choice(values, path)
        problem = invalid_field(path, f"there is only null: {_SERVED}")
        rest = [each for each in alternatives if each.get("type") != "null"]
        for schema in rest:
            try:
                form = self._single(schema, path, depth)
            except APIError as error:
                problem = error
            else:
                return _or_null(form) if len(rest) < len(alternatives) else form
        raise problem

    def _single(self, schema: Schema, path: str, depth: int) -> Form:
        values, kind = _constants([schema], path), schema.get("type")
        if values is not None:
            return self._choice(values, path)
        if kind is None:
            kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
        match kind:
            case "boolean":
                return self._boolean(path)
            case "number" | "integer":
                return self._number(schema, path, whole=kind == "integer")
            case "string":
                return self._string(schema, path)
            case "object":
                return self._object(schema, path, depth)
        raise invalid_field(path, f"{kind} is not served: {_SERVED}")

    def _choice(self, values: list[Any], path: str) -> Form:
        rest = [value for value in values if value is not None]
        if not all(isinstance(value, str | int | float) for value in rest):
            raise invalid_field(path, "a choice is between texts, numbers or booleans")
        texts = tuple(value if isinstance(value, str) else json.dumps(value) for value in rest)
        if self._options:
            form = _chosen(_matched(self._options, dict(zip(texts, rest, strict=True)), path))
        elif not 2 <= len(rest) <= len(LETTERS):
            raise invalid_field(path, f"the number of values is {len(rest)}: 2–{len(LETTERS)} are served")
        elif len({text.strip().casefold() for text in texts} - {""}) < len(texts):
            raise invalid_field(path, "its values must be different texts, none of them empty")
        else:
            form = _chosen(rest, texts)
        return _or_null(form) if None in values else form

    def _boolean(self, path: str) -> Form:
        if not self._options:
            return _chosen([True, False], ("yes", "no"))
        values = [_BOOLEANS.get(option.casefold().strip(" .")) for option in self._options]
        if None in values:
            raise invalid_field(
                path, "the options in the question are not yes and no: use an enum, or a text"
            )
        return _chosen(values)

    def _number(self, schema: Schema, path: str, *, whole: bool) -> Form:
        if not self._options:
            return _leaf("number", (), lambda answer, _: _within(_read_number(answer, whole=whole), schema))
        try:
            return _chosen([_read_number(option, whole=whole) for option in self._options])
        except Unfit:
            raise invalid_field(
                path, "the options in the question are not numbers: use an enum, or a text"
            ) from None

    def _string(self, schema: Schema, path: str) -> Form:
        for name in ("pattern", "format"):
            if schema.get(name):
                raise invalid_field(f"{path}.{name}", "leave it out, or list the values as an enum")
        kind: AnswerType = "choice" if self._options else "free"
        return _leaf(kind, (), lambda _, text: _within(text, schema))

    def _object(self, schema: Schema, path: str, depth: int) -> Form:
        properties, required = schema.get("properties") or {}, schema.get("required") or []
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise invalid_field(path, "this is not a JSON schema")
        if not properties:
            more = schema.get("additionalProperties")
            if "properties" in schema or more is False:
                raise invalid_field(path, f"it has no properties, so there is nothing to answer: {_SERVED}")
            properties = {"answer": more if isinstance(more, dict) else {"type": "string"}}
        paths = {name: f"{path}.properties.{name}" for name in properties}
        parts = {name: self._alternatives(each, paths[name], depth + 1) for name, each in properties.items()}
        listed = {name: _constants(each, paths[name]) or [] for name, each in parts.items()}
        fixed = {name: values[0] for name, values in listed.items() if len(values) == 1}
        thinking = [name for name, each in parts.items() if _THINKING.fullmatch(name) and _is_text(each)]
        names = [name for name in parts if name not in fixed and name not in thinking]
        if not names and thinking:
            names = [thinking.pop()]
        needed = [
            name
            for name in names
            if name in required and None not in listed[name] and {"type": "null"} not in parts[name]
        ]
        if len(needed) > 1:
            many = " and ".join(needed[:3])
            raise invalid_field(paths[needed[1]], f"{many} are required, but there is one answer: {_SERVED}")
        likely = needed or (names if len(names) == 1 else [name for name in names if _ANSWER.fullmatch(name)])
        if len(likely) != 1:
            raise invalid_field(path, f"no property is clearly the answer: name it answer; {_SERVED}")
        form = self._form_of(parts[likely[0]], paths[likely[0]], depth + 1)

        def value(given: Given) -> Any:
            filled = {name: None for name in parts if name in required}
            filled |= fixed | dict.fromkeys(thinking, given.thinking) | {likely[0]: form.value(given)}
            return {name: filled[name] for name in parts if name in filled}

        return replace(form, value=value)


def _without(schema: Schema, key: str) -> Schema:
    return {name: value for name, value in schema.items() if name != key}


def _constants(alternatives: Sequence[Schema], path: str) -> list[Any] | None:
    """All values of schemas that list theirs; None if one does not."""
    values: list[Any] = []
    for schema in alternatives:
        if "const" in schema:
            values.append(schema["const"])
        elif schema.get("enum") is not None:
            if not isinstance(schema["enum"], list) or not schema["enum"]:
                raise invalid_field(f"{path}.enum", "this must be a list of values")
            values += schema["enum"]
        elif schema.get("type") == "null" and len(alternatives) > 1:
            values.append(None)
        else:
            return None
    return values


def _is_text(alternatives: list[Schema]) -> bool:
    kinds = [each.get("type") for each in alternatives if not each.keys() & {"enum", "const", "pattern"}]
    return len(kinds) == len(alternatives) and all(kind in ("string", "null") for kind in kinds)


def _leaf(answer_type: AnswerType, choices: tuple[str, ...], convert: Callable[[str, str], Any]) -> Form:
    def value(given: Given) -> Any:
        if given.answer is None:
            raise Unfit("the model gave no answer")
        return convert(given.answer, given.text)

    return Form(answer_type, choices, value)


def _chosen(values: list[Any], choices: tuple[str, ...] = ()) -> Form:
    return _leaf("choice", choices, lambda letter, _: values[LETTERS.index(letter)])


def _or_null(form: Form) -> Form:
    def value(given: Given) -> Any:
        try:
            return form.value(given)
        except Unfit:
            return None

    return replace(form, value=value)


def _matched(options: tuple[str, ...], values: dict[str, Any], path: str) -> list[Any]:
    """The value of each option: by its text, with or without a letter before it, or by its letter."""
    by_text = {without_mark(text).casefold(): value for text, value in values.items()}
    by_letter = {text.strip(" ().:").upper(): value for text, value in values.items()}
    for keys, found in (
        ([option.casefold() for option in options], by_text),
        (list(LETTERS[: len(options)]), by_letter),
    ):
        if all(key in found for key in keys):
            return [found[key] for key in keys]
    raise invalid_field(
        path,
        "its values are not the options in the question: leave the options out of the text, or list their "
        "letters or their texts here",
    )


def _read_number(text: str, *, whole: bool) -> float:
    quantity = read_quantity(text)
    if isinstance(quantity, str):
        raise Unfit(f"the answer is not one number: {quantity}")
    if quantity.value.denominator == 1:
        return int(quantity.value)
    if whole:
        raise Unfit("the answer is not a whole number")
    return float(quantity.value)


def _within(value: T, schema: Schema) -> T:
    for name, holds in _BOUNDS.items():
        bound, of_text = schema.get(name), name.endswith("Length")
        if not isinstance(bound, int | float) or isinstance(bound, bool):
            continue
        if of_text == isinstance(value, str) and not holds(value, bound):
            raise Unfit(f"the answer is {value}, but the schema's {name} is {bound}")
    return value
