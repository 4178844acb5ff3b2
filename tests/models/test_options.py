"""Options of a model: written in its spec, in settings, or in Python; unknown and wrong ones are refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from p2r.errors import InputError
from p2r.models import open_model
from p2r.models.base import Sampling
from p2r.models.endpoint import EndpointModel
from p2r.models.options import ModelOptions, split_spec
from p2r.pipeline import P2R
from p2r.runs.provenance import revision
from p2r.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://localhost:8000/v1"


def options_of(spec: str, options: ModelOptions | None = None) -> ModelOptions:
    model = open_model(spec, options=options)
    assert isinstance(model, EndpointModel)
    return model.options


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("", ModelOptions()),
        (",thinking=off", ModelOptions(thinking=False)),
        (",thinking=True", ModelOptions(thinking=True)),
        (",thinking=off,thinking_tokens=4096", ModelOptions(thinking=False, thinking_tokens=4096)),
        (
            ",max_tokens_field=max_completion_tokens,temperature=omit",
            ModelOptions(max_tokens_field="max_completion_tokens", temperature="omit"),
        ),
        (",temperature=1", ModelOptions(temperature=1.0)),
        (
            ",extra_body.top_k=20,extra_body.reasoning.effort=low",
            ModelOptions(extra_body={"top_k": 20, "reasoning": {"effort": "low"}}),
        ),
        (
            ',extra_body={"a": [1, 2], "b": "x,y"},chat_template_kwargs.enable_thinking=False',
            ModelOptions(
                extra_body={"a": [1, 2], "b": "x,y"}, chat_template_kwargs={"enable_thinking": False}
            ),
        ),
    ],
)
def test_a_spec_carries_options_and_the_name_does_not(written: str, means: ModelOptions) -> None:
    model = open_model(f"{URL}#org/name{written}")
    assert isinstance(model, EndpointModel)
    assert (model.base_url, model.name, model.options) == (URL, "org/name", means)


def test_a_comma_without_an_option_is_part_of_the_name() -> None:
    assert split_spec("http://h/v1#a,b") == ("http://h/v1#a,b", {})


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (",thinkin=off", "unknown option 'thinkin' (known: thinking, thinking_tokens, "),
        (",thinking=off,topk=3", "unknown option 'topk'"),
        (",thinking=maybe", "thinking: Input should be a valid boolean"),
        (",thinking_tokens=-1", "thinking_tokens: Input should be greater than or equal to 0"),
        (",max_tokens_field=tokens", "max_tokens_field: Input should be 'auto', 'max_tokens' or"),
        (
            ",temperature=5",
            "temperature: Input should be 'auto' or 'omit'; or: Input should be less than or equal to 2",
        ),
        (",temperature=warm", "temperature: Input should be 'auto'"),
        (",extra_body=3", "extra_body: Input should be a valid dictionary"),
        (",extra_body.model=x", "top level: extra_body.model: this field is set by the request itself"),
        (",thinking.x=1", "thinking: Input should be a valid boolean"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line_with_the_model(written: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        open_model(f"{URL}#name{written}")
    # Where options could be read, they are left out: one may hold a secret.
    assert str(caught.value).startswith(f"model {URL}#name")
    assert f": {says}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_may_be_named_after_options(tmp_path: Path) -> None:
    folder = tmp_path / "lr=1,temperature=1"
    folder.mkdir()
    assert split_spec(str(folder)) == (str(folder), {})
    assert split_spec(f"vllm:{folder}") == (f"vllm:{folder}", {})


def test_the_spec_goes_before_the_options_given() -> None:
    given = ModelOptions(thinking=True, thinking_tokens=100, extra_body={"top_k": 5, "min_p": 0.1})
    assert options_of(f"{URL}#name", given) == given
    assert options_of(f"{URL}#name,thinking=off,extra_body.top_k=1", given) == ModelOptions(
        thinking=False, thinking_tokens=100, extra_body={"top_k": 1, "min_p": 0.1}
    )


def test_settings_carry_options_to_the_models_and_the_digest_is_of_those_in_use(tmp_path: Path) -> None:
    settings = Settings(options=ModelOptions(thinking=False))
    settings.save(tmp_path)
    assert Settings.load(tmp_path) == settings
    with P2R(f"{URL}#one", reasoner=f"{URL}#two,thinking=on", settings=settings) as p2r:
        assert isinstance(p2r.perceiver, EndpointModel)
        assert isinstance(p2r.reasoner, EndpointModel)
        assert (p2r.perceiver.options.thinking, p2r.reasoner.options.thinking) == (False, True)
        assert p2r.settings == settings
    with P2R(f"{URL}#one,thinking=off") as p2r:
        assert p2r.settings == settings


def test_options_at_their_defaults_leave_old_digests_as_they_are() -> None:
    # As in results that were written before there were options.
    assert Settings().digest == "32f1aa952082"
    assert "options" not in Settings().to_dict()
    assert Settings(options=ModelOptions(thinking=False)).digest != Settings().digest


def test_the_thinking_gets_tokens_beside_the_stages_own() -> None:
    assert ModelOptions(thinking_tokens=100).widened(Sampling(16)) == Sampling(116)
    assert ModelOptions(thinking=True, thinking_tokens=100).widened(Sampling(16)) == Sampling(116)
    assert ModelOptions(thinking=False, thinking_tokens=100).widened(Sampling(16)) == Sampling(16)


def test_variables_of_the_template_go_before_the_switch() -> None:
    assert ModelOptions().template_kwargs() == {}
    assert ModelOptions(thinking=False).template_kwargs() == {"enable_thinking": False}
    both = ModelOptions(thinking=False, chat_template_kwargs={"enable_thinking": True, "lang": "en"})
    assert both.template_kwargs() == {"enable_thinking": True, "lang": "en"}


def test_options_do_not_hide_which_weights_were_used(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert revision(f"{tmp_path},thinking=off") == revision(str(tmp_path)) is not None
    assert revision(f"vllm:{tmp_path},thinking=off") == revision(str(tmp_path))


def test_options_in_a_file_are_checked(tmp_path: Path) -> None:
    (tmp_path / "p2r.json").write_text(json.dumps({"options": {"thinkin": True}}))
    with pytest.raises(InputError, match=r"p2r.json: options.thinkin"):
        Settings.load(tmp_path)
