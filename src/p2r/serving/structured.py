"""Structured output: a JSON schema → what is asked, and a function from the answer to JSON.

A question has one answer, so a schema is served where it comes down to one value: a choice (`enum`, a
boolean), a number, or a text; alone, or as the one property of an object that has to be filled. In such an
object a property named like `reasoning` gets the thinking, constants are filled in, and what may be left out
is left out. Every other schema is refused with the field at fault and a sentence that says what works.
"""

from __future__ import annotations

import json
import operator
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from p2r.parsing.numbers import read_quantity
from p2r.parsing.options import without_mark
from p2r.serving.errors import RequestFailed, refused
from p2r.types import LETTERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from p2r.types import AnswerType

    Schema = dict[str, Any]

WHAT_WORKS = (
    "served is one value: a choice (enum, boolean), a number or a text, alone or as the one required "
    "property of an object, beside a text named reasoning"
)
MAX_DEPTH = 16
MAX_SCHEMAS = 2_000  # of one schema, looked at one by one
_THINKING = re.compile(
    r"(?:(?:step_by_step|chain_of)_?)?(?:reason(?:ing)?s?|thoughts?|thinking|explanation|rationale|analysis"
    r"|justification)(?:_?(?:steps?|process|text))?",
    re.IGNORECASE,
)
_ANSWER = re.compile(r"(?:final_?)?(?:answer|result|response|value|output|choice|label)", re.IGNORECASE)
_YES_NO = ("yes", "no")
_SCHEMA_KEYS = frozenset(("properties", "$ref", "enum"))
MAX_BRACES = 32  # in a prompt, at which a schema is looked for


class Unfit(Exception):  # noqa: N818  (the answer does not fit; nobody made a mistake)
    """An answer that cannot be written in the form that was asked for; says why."""


@dataclass(frozen=True, slots=True)
class Form:
    """The form in which an answer is wanted.

    Attributes:
        answer_type: what is asked for.
        choices: the options of the question, where the schema gives them; else `()`.
        value: the JSON value for an answer, as a prediction has it, and the text that would be sent without a
            form. Raises `Unfit`.
        nullable: the value may be null, where there is no answer.
        wrap: the whole JSON around the value, given the thinking.
    """

    answer_type: AnswerType
    choices: tuple[str, ...]
    value: Callable[[str, str], Any]
    nullable: bool = False
    wrap: Callable[[Any, str], Any] = lambda value, _: value

    def write(self, answer: str | None, text: str, thinking: str) -> str:
        """The JSON text of an answer.

        Args:
            answer: of the prediction.
            text: the answer as it is sent without a form.
            thinking: of the prediction.

        Raises:
            Unfit: there is no answer, or none of this form.
        """
        try:
            if answer is None:
                raise Unfit("the model gave no answer")
            value = self.value(answer, text)
        except Unfit:
            if not self.nullable:
                raise
            value = None
        return json.dumps(self.wrap(value, thinking), ensure_ascii=False)


def read_form(schema: Any, path: str, written: tuple[str, ...]) -> Form:
    """What a schema asks for.

    Args:
        schema: the JSON schema; None for any JSON object, which is `{"answer": text}`.
        path: of its field.
        written: the options in the text of the question.

    Raises:
        RequestFailed: it does not come down to one value; names the field.
    """
    if schema is None:
        return _in_object(_text(written))
    return _Reader(schema, written).form(schema, path, 0)


class WrittenSchema(NamedTuple):
    """A JSON schema in a prompt, and the text around it without the paragraph that introduces it."""

    before: str
    schema: Any
    after: str


def find_schema(text: str) -> WrittenSchema | None:
    """The JSON schema that is written in a prompt, if there is one.

    Clients without another way write it there, with sentences around it that say to reply in that form. Of
    several it is the last one: some show an example first.
    """
    written, end = None, 0
    for _ in range(MAX_BRACES):
        start = text.find("{", end)
        if start < 0:
            break
        end = start + 1
        try:
            found, behind = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and not _SCHEMA_KEYS.isdisjoint(found):
            # The introduction is the paragraph before, or the lines before in the same one.
            introduced = text[:start].rstrip()
            before = written.before if written else introduced[: max(introduced.rfind("\n\n"), 0)].strip()
            written, end = WrittenSchema(before, found, text[behind:].strip()), behind
    return written


def forced_tool(tools: Any, choice: Any) -> tuple[str, Any, str] | None:
    """The one function that the client wants to be called: the path of its schema, the schema, its name.

    Both shapes are read, that of chat (`{"type": "function", "function": {"name": …}}`) and that of responses
    (`{"type": "function", "name": …}`). None where the answer may be a text.

    Raises:
        RequestFailed: a function is demanded that cannot be named or is not there.
    """
    allowed = choice.get("allowed_tools", choice) if isinstance(choice, dict) else {}
    mode = allowed.get("mode") if isinstance(allowed, dict) else None
    if choice in (None, False, "", "none", "auto") or mode == "auto":
        return None
    fitting = [
        (index, _function(tool)) for index, tool in enumerate(tools if isinstance(tools, list) else ())
    ]
    if choice not in ("required", "any") and mode != "required":
        wanted = _function(choice).get("name")
        fitting = [(index, tool) for index, tool in fitting if wanted and tool.get("name") == wanted]
    if len(fitting) > 1:
        raise refused("tool_choice", "several functions could be called: name the one that takes the answer")
    if not fitting or not isinstance(fitting[0][1].get("name"), str):
        raise refused("tool_choice", "there is no such function in tools")
    index, function = fitting[0]
    within = "function.parameters" if "function" in tools[index] else "parameters"
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    return f"tools.{index}.{within}", parameters, function["name"]


def _function(tool: Any) -> Schema:
    if not isinstance(tool, dict):
        return {}
    inner = tool.get("function")
    return inner if isinstance(inner, dict) else tool


def _in_object(form: Form) -> Form:
    return replace(form, wrap=lambda value, thinking: {"answer": form.wrap(value, thinking)})


def _text(written: tuple[str, ...]) -> Form:
    return Form("choice" if written else "free", (), lambda _, text: text)


class _Reader:
    """Walks one schema."""

    def __init__(self, root: Any, written: tuple[str, ...]) -> None:
        self._root = root
        self._written = written
        self._left = MAX_SCHEMAS

    def form(self, schema: Any, path: str, depth: int) -> Form:
        """The form that a schema asks for; RequestFailed where it is none of ours."""
        if depth > MAX_DEPTH:
            raise refused(path, "the schema is nested too deeply")
        schema = self._resolved(schema, path)
        values = self._constants(schema, path, depth)
        if values is not None:
            return self._choice(values, path)
        rest, nullable = self._alternatives(schema)
        if nullable or len(rest) > 1:
            return self._first_of(rest, path, depth, nullable=nullable)
        kind = schema.get("type")
        if kind is None:
            kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
        if kind == "boolean":
            return self._boolean(path)
        if kind in ("number", "integer"):
            return self._number(schema, path, whole=kind == "integer")
        if kind == "object":
            return self._object(schema, path, depth)
        if kind == "string":
            return self._string(schema, path)
        raise refused(path, f"{kind} is not served: {WHAT_WORKS}")

    def _resolved(self, schema: Any, path: str) -> Schema:
        for _ in range(MAX_DEPTH):
            self._left -= 1
            if self._left < 0:
                raise refused(path, "the schema is too large")
            if not isinstance(schema, dict):
                raise refused(path, "this is not a JSON schema")
            inner = schema.get("allOf")
            if "$ref" in schema:
                rest = {key: value for key, value in schema.items() if key != "$ref"}
                schema = {**self._pointed(schema["$ref"], path), **rest}
            elif isinstance(inner, list) and len(inner) == 1 and isinstance(inner[0], dict):
                schema = {**inner[0], **{key: value for key, value in schema.items() if key != "allOf"}}
            else:
                return schema
        raise refused(path, "the schema refers to itself")

    def _pointed(self, pointer: Any, path: str) -> Schema:
        found = self._root
        steps = pointer.split("/") if isinstance(pointer, str) else ["?"]
        for step in steps[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            found = found.get(step) if isinstance(found, dict) else None
        if steps[0] != "#" or not isinstance(found, dict):
            raise refused(path, "$ref must point into this schema, as #/$defs/NAME")
        return found

    def _constants(self, schema: Schema, path: str, depth: int) -> list[Any] | None:
        """The values of which the schema allows one; None where it does not list them."""
        if "const" in schema:
            return [schema["const"]]
        values = schema.get("enum")
        if values is None:
            members = schema.get("anyOf") or schema.get("oneOf")
            if not isinstance(members, list) or depth > MAX_DEPTH:
                return None
            listed = [self._constants(self._resolved(each, path), path, depth + 1) for each in members]
            nothing = [isinstance(each, dict) and each.get("type") == "null" for each in members]
            if not any(listed) or not all(one or none for one, none in zip(listed, nothing, strict=True)):
                return None
            values = [value for each in listed for value in (each if each is not None else [None])]
        if not isinstance(values, list) or not values:
            raise refused(f"{path}.enum", "this must be a list of values")
        return values

    def _alternatives(self, schema: Schema) -> tuple[list[Any], bool]:
        """The schemas of which one holds, without null, and whether null is allowed."""
        kinds = schema.get("type")
        members = schema.get("anyOf") or schema.get("oneOf")
        if isinstance(members, list):
            rest = [each for each in members if not (isinstance(each, dict) and each.get("type") == "null")]
            return rest, len(rest) < len(members)
        if isinstance(kinds, list):
            return [{**schema, "type": kind} for kind in kinds if kind != "null"], "null" in kinds
        if schema.get("nullable") is True:
            return [{key: value for key, value in schema.items() if key != "nullable"}], True
        return [schema], False

    def _first_of(self, schemas: list[Any], path: str, depth: int, *, nullable: bool) -> Form:
        problem = refused(path, f"there is only null: {WHAT_WORKS}")
        if len(schemas) > MAX_SCHEMAS:
            raise refused(path, "the schema is too large")
        for schema in schemas:
            try:
                form = self.form(schema, path, depth + 1)
            except RequestFailed as failed:
                problem = failed
            else:
                return replace(form, nullable=True, wrap=_or_null(form.wrap)) if nullable else form
        raise problem

    def _choice(self, values: list[Any], path: str) -> Form:
        nullable = None in values
        values = [value for value in values if value is not None]
        if not all(isinstance(value, str | int | float) for value in values):
            raise refused(path, "a choice is between texts, numbers or booleans")
        texts = tuple(value if isinstance(value, str) else json.dumps(value) for value in values)
        if self._written:
            by_option = _matched(self._written, texts, values)
            if by_option is None:
                raise refused(
                    path,
                    "its values are not the options in the question: leave the options out of the text, or "
                    "list their letters or their texts here",
                )
            return Form("choice", (), _by_letter(by_option), nullable)
        if len(values) < 2:
            raise refused(path, "there is one value, so nothing to choose")
        if len(values) > len(LETTERS):
            raise refused(path, f"there are {len(values)} values: at most {len(LETTERS)} are served")
        folded = {text.strip().casefold() for text in texts}
        if len(folded) < len(texts) or "" in folded:
            raise refused(path, "its values must be different texts, none of them empty")
        return Form("choice", texts, _by_letter(values), nullable)

    def _boolean(self, path: str) -> Form:
        if not self._written:
            return Form("choice", _YES_NO, _by_letter([True, False]))
        meant = {"yes": True, "true": True, "no": False, "false": False}
        values = [meant.get(option.casefold().strip(" .")) for option in self._written]
        if None in values:
            raise refused(path, "the options in the question are not yes and no: use an enum, or a text")
        return Form("choice", (), _by_letter(values))

    def _number(self, schema: Schema, path: str, *, whole: bool) -> Form:
        def value(answer: str, _: str) -> float:
            return _fitting(_read_number(answer, whole=whole), schema)

        if not self._written:
            return Form("number", (), value)
        try:
            values = [_read_number(option, whole=whole) for option in self._written]
        except Unfit:
            raise refused(
                path, "the options in the question are not numbers: use an enum, or a text"
            ) from None
        return Form("choice", (), _by_letter(values))

    def _string(self, schema: Schema, path: str) -> Form:
        for name in ("pattern", "format"):
            if schema.get(name):
                raise refused(
                    f"{path}.{name}", "it cannot be promised: leave it out, or list the values as an enum"
                )
        form = _text(self._written)

        def value(answer: str, text: str) -> str:
            text = form.value(answer, text)
            most, least = schema.get("maxLength"), schema.get("minLength")
            if (isinstance(most, int) and len(text) > most) or (isinstance(least, int) and len(text) < least):
                raise Unfit("the answer has not the length that the schema asks for")
            return text

        return replace(form, value=value)

    def _object(self, schema: Schema, path: str, depth: int) -> Form:
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise refused(path, "this is not a JSON schema")
        if not properties:
            more = schema.get("additionalProperties")
            if "properties" in schema or more is False:
                raise refused(path, f"it has no properties, so there is nothing to answer: {WHAT_WORKS}")
            if not isinstance(more, dict):
                return _in_object(_text(self._written))
            return _in_object(self.form(more, f"{path}.additionalProperties", depth + 1))
        resolved = {
            name: self._resolved(each, f"{path}.properties.{name}") for name, each in properties.items()
        }
        listed = {
            name: self._constants(each, f"{path}.properties.{name}", depth) or []
            for name, each in resolved.items()
        }
        fixed = {name: values[0] for name, values in listed.items() if len(values) == 1}
        nullable = {
            name for name, each in resolved.items() if None in listed[name] or self._alternatives(each)[1]
        }
        thinking = [name for name in resolved if _THINKING.fullmatch(name) and self._is_text(resolved[name])]
        open_ = [name for name in resolved if name not in fixed and name not in thinking]
        if not open_ and thinking:
            open_ = [thinking.pop()]
        name = self._answering(open_, required, nullable, path)
        form = self.form(resolved[name], f"{path}.properties.{name}", depth + 1)

        def wrap(value: Any, thoughts: str) -> Any:
            filled: dict[str, Any] = {}
            for each in resolved:
                if each == name:
                    filled[each] = form.wrap(value, thoughts)
                elif each in fixed:
                    filled[each] = fixed[each]
                elif each in thinking:
                    filled[each] = thoughts
                elif each in required:
                    filled[each] = None
            return filled

        return replace(form, wrap=wrap)

    def _answering(self, names: list[str], required: list[Any], nullable: set[str], path: str) -> str:
        """The property that gets the answer."""
        needed = [name for name in names if name in required and name not in nullable]
        if len(needed) > 1:
            at = f"{path}.properties.{needed[1]}"
            raise refused(
                at, f"{' and '.join(needed[:3])} are required, and there is one answer: {WHAT_WORKS}"
            )
        if needed:
            return needed[0]
        likely = [name for name in names if _ANSWER.fullmatch(name)] if len(names) > 1 else names
        if len(likely) != 1:
            raise refused(
                path, f"it is not clear which property gets the answer: name it answer; {WHAT_WORKS}"
            )
        return likely[0]

    def _is_text(self, schema: Schema) -> bool:
        rest, _ = self._alternatives(schema)
        return all(isinstance(each, dict) and each.get("type") == "string" for each in rest) and not (
            "enum" in schema or "pattern" in schema
        )


def _or_null(wrap: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    return lambda value, thinking: None if value is None else wrap(value, thinking)


def _by_letter(values: list[Any]) -> Callable[[str, str], Any]:
    return lambda answer, _: values[LETTERS.index(answer)]


def _matched(options: tuple[str, ...], texts: tuple[str, ...], values: list[Any]) -> list[Any] | None:
    """The value of each written option: by its text, with or without a letter before it, or by its letter."""
    by_text = {without_mark(text).casefold(): value for text, value in zip(texts, values, strict=True)}
    if all(option.casefold() in by_text for option in options):
        return [by_text[option.casefold()] for option in options]
    by_letter = {text.strip(" ().:").upper(): value for text, value in zip(texts, values, strict=True)}
    letters = LETTERS[: len(options)]
    return [by_letter[letter] for letter in letters] if all(each in by_letter for each in letters) else None


def _read_number(text: str, *, whole: bool) -> float:
    quantity = read_quantity(text)
    if isinstance(quantity, str):
        raise Unfit(f"the answer is not one number: {quantity}")
    if quantity.value.denominator == 1:
        return int(quantity.value)
    if whole:
        raise Unfit("the answer is not a whole number")
    return float(quantity.value)


_BOUNDS: dict[str, Callable[[float, float], bool]] = {
    "minimum": operator.ge,
    "maximum": operator.le,
    "exclusiveMinimum": operator.gt,
    "exclusiveMaximum": operator.lt,
}


def _fitting(value: float, schema: Schema) -> float:
    """The value, if the schema's bounds allow it."""
    for name, holds in _BOUNDS.items():
        bound = schema.get(name)
        if isinstance(bound, int | float) and not isinstance(bound, bool) and not holds(value, bound):
            raise Unfit(f"the answer is {value}, against the schema's {name}")
    return value
