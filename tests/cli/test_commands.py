"""The commands, through typer, asking a scripted server over HTTP."""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from p2r import __version__
from p2r.checks import EXTRAS
from p2r.cli import app
from p2r.cli.answer import nano_note
from p2r.datasets.samples import read_samples
from p2r.model_checks import PROBES
from p2r.types import Prediction
from scripts.gallery import landscape
from tests.servers import Behavior, Exchange, Server, reply, status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer.testing import Result

BOXES = """[{"bbox_2d": [100, 200, 150, 260], "label": "bus"},
 {"bbox_2d": [700, 700, 760, 780], "label": "[sign]"}]"""
THOUGHT = "<think>The bus is blue.</think><answer>B</answer>"
CHOICES = ["--choice", "red", "--choice", "blue"]


def perceiving(exchange: Exchange) -> bool:
    return "JSON list of boxes" in json.dumps(exchange.body)


def answering(boxes: str = BOXES, thought: Behavior | None = None) -> list[Behavior]:
    """A script that distinguishes the two roles by their prompts."""
    reasoned = thought or reply(THOUGHT)
    return [lambda exchange: (reply(boxes) if perceiving(exchange) else reasoned)(exchange)]


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "street.png"
    PIL.Image.fromarray(np.full((300, 400, 3), 128, np.uint8)).save(path)
    return str(path)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(answering()) as server:
        yield server


def run(*arguments: object, width: int = 200) -> Result:
    return CliRunner().invoke(app, [str(part) for part in arguments], env={"COLUMNS": str(width)})


def ask(server: Server, image: str, *arguments: object) -> Result:
    return run("answer", image, "Which color?", *CHOICES, "--model", f"{server.url}#served", *arguments)


# p2r answer


def test_text_output_shows_boxes_thinking_answer_and_cost(server: Server, image: str) -> None:
    result = ask(server, image)
    assert (result.exit_code, result.stderr) == (0, "")
    for part in ("■ red", "(100, 200, 150, 260)", "bus", "■ green", "[sign]", "The bus is blue.", "B. blue"):
        assert part in result.stdout, part
    assert "served · p2r" in result.stdout
    assert "14 + " in result.stdout, "prompt tokens of both calls"
    assert len(result.stdout.splitlines()) <= 6, "it is compact"


def test_json_is_exactly_one_object(server: Server, image: str) -> None:
    result = ask(server, image, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    record = json.loads(result.stdout)
    assert record["answer"] == "B"
    assert record["status"] == "answered"
    assert record["boxes"] == [
        {"box": [100, 200, 150, 260], "label": "bus"},
        {"box": [700, 700, 760, 780], "label": "[sign]"},
    ]
    assert record["thinking"] == "The bus is blue."
    assert record["perception"] == BOXES
    assert record["outcome"] == "boxes"
    assert record["usage"]["prompt_tokens"] == 14
    assert record["usage"]["calls"] == 2
    assert set(record["seconds"]) == {"image", "perceive", "evidence", "reason", "total"}
    assert record["model"] == record["reasoner"] == "served"
    assert len(record["digest"]) == 12
    assert len(record["crops_px"]) == 2


def test_the_record_of_a_prediction_without_a_perceiver_is_plain_data() -> None:
    record = Prediction("7", "think", "no_answer").to_json()
    assert json.loads(json.dumps(record)) == record
    assert (record["perception"], record["outcome"], record["boxes"]) == (None, None, [])


@pytest.mark.parametrize("mode", ["think", "direct"])
def test_one_pass_modes_ask_once(server: Server, image: str, mode: str) -> None:
    record = json.loads(ask(server, image, "--mode", mode, "--json").stdout)
    assert (record["mode"], record["answer"], len(server.requests)) == (mode, "B", 1)


def test_another_model_reasons(server: Server, image: str) -> None:
    with Server(answering(), models=["mind"]) as mind:
        result = ask(server, image, "--reasoner", f"{mind.url}#mind")
        assert (len(server.requests), len(mind.requests)) == (1, 1)
    assert "served + mind · p2r" in result.stdout


def test_the_type_of_the_answer_reaches_the_prompt(server: Server, image: str) -> None:
    run("answer", image, "How many?", "--type", "number", "--model", f"{server.url}#served")
    assert "is a number" in json.dumps(server.requests[-1].body)


def test_prompts_and_settings_come_from_files(server: Server, image: str, tmp_path: Path) -> None:
    prompts, settings = tmp_path / "mine.toml", tmp_path / "p2r.json"
    prompts.write_text('perceive = "JSON list of boxes, in my words: $question"')
    settings.write_text(json.dumps({"geometry": {"max_crops": 1}, "max_tokens": {"perceive": 77}}))
    record = json.loads(ask(server, image, "--prompts", prompts, "--settings", settings, "--json").stdout)
    plain = json.loads(ask(server, image, "--json").stdout)
    first = server.requests[0].body
    assert "in my words: Which color?" in json.dumps(first)
    assert 77 in first.values(), "the token limit is sent"
    assert (len(record["crops_px"]), len(record["boxes"])) == (1, 2)
    assert record["digest"] != plain["digest"]


def test_settings_are_set_one_by_one_after_the_files(server: Server, image: str, tmp_path: Path) -> None:
    settings = tmp_path / "part.json"
    settings.write_text(json.dumps({"geometry": {"max_crops": 2}, "max_tokens": {"perceive": 77}}))
    changes = ["--set", "geometry.max_crops=1", "--set", "max_tokens.reason=55"]
    record = json.loads(ask(server, image, "--settings", settings, *changes, "--json").stdout)
    assert len(record["crops_px"]) == 1
    perceive, reason = (request.body for request in server.requests)
    assert 77 in perceive.values()
    assert 55 in reason.values()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("geometry.max_crop=1", "geometry.max_crop: there is no such key; known: max_crops, "),
        ("nothing=1", "nothing: there is no such key; known: geometry, budget, max_tokens, "),
        ("geometry.max_crops=many", "geometry.max_crops: "),
        ("box_format=corners", "'qwen3', 'pixels', 'gemini' or 'unit'"),
        ("geometry.max_crops", "write KEY=VALUE"),
        ("prompts.reason=none", "$question is missing"),
    ],
)
def test_a_setting_that_does_not_exist(server: Server, image: str, change: str, says: str) -> None:
    result = ask(server, image, "--set", change)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --set")
    assert says in result.stderr
    assert not server.requests


def test_save_writes_a_figure(server: Server, image: str, tmp_path: Path) -> None:
    figure = tmp_path / "figure.png"
    result = ask(server, image, "--save", figure)
    assert result.exit_code == 0
    with PIL.Image.open(figure) as saved:
        assert saved.width > 400


def test_no_answer_is_shown_and_is_not_a_failure(image: str) -> None:
    with Server(answering(thought=reply("<answer>A or B</answer>"))) as server:
        result = ask(server, image)
        record = json.loads(ask(server, image, "--json").stdout)
    assert result.exit_code == 0
    assert "none" in result.stdout
    assert (record["status"], record["answer"]) == ("no_answer", None)


def test_a_reply_without_boxes_is_shown(image: str) -> None:
    with Server(answering("I see no bus.")) as server:
        assert "held no box" in ask(server, image).stdout
    with Server(answering("[]")) as server:
        assert "the whole image" in ask(server, image).stdout


def test_control_characters_of_a_model_are_not_printed(image: str) -> None:
    boxes = BOXES.replace("bus", "\\u001b[2Jbus\\nbox")
    with Server(answering(boxes, reply("<think>\x1b]0;title\x07x</think><answer>B</answer>"))) as server:
        result = ask(server, image)
    assert "\x1b" not in result.stdout
    assert "bus box" in result.stdout, "a label stays on its line"


def test_a_failed_model_gives_one_line_an_object_and_code_3(image: str) -> None:
    with Server([status(400, message="no such thing")]) as server:
        result = ask(server, image, "--json")
    assert result.exit_code == 3
    assert result.stderr.startswith("error: served: ")
    assert result.stderr.count("\n") == 1
    record = json.loads(result.stdout)
    assert (record["status"], record["answer"]) == ("failed", None)
    assert "no such thing" in record["error"]


def test_debug_shows_the_trace(image: str) -> None:
    result = run("answer", image, " ", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "Traceback" not in run("answer", image, " ").stderr


def test_the_note_on_nano() -> None:
    note = nano_note("nano-base")
    assert "nano-base was trained only on the scenes" in note
    assert "any other image" in note, "true of a scene, of its copy and of a photograph"
    assert "Qwen/Qwen3-VL-4B-Instruct" in note
    assert nano_note("Qwen/Qwen3-VL-4B-Instruct") == ""


@pytest.mark.parametrize(
    ("text", "options", "asked"),
    [
        ("Which color? (A) red (B) blue", [], ("Which color?", ["A. red", "B. blue"])),
        ("Which color?\nA. red\nB. blue", [], ("Which color?", ["A. red", "B. blue"])),
        ("Which color? (A) red (B) blue", ["--type", "free"], ("Which color? (A) red (B) blue", [])),
        ("What is at (A) and (B)?", CHOICES, ("What is at (A) and (B)?", ["A. red", "B. blue"])),
    ],
)
def test_options_in_the_question_are_read(
    server: Server, image: str, text: str, options: list[str], asked: tuple[str, list[str]]
) -> None:
    result = run("answer", image, text, *options, "--mode", "direct", "--model", f"{server.url}#served")
    assert result.exit_code == 0, result.output
    prompt = "\n".join(part["text"] for part in server.requests[-1].body["messages"][-1]["content"][1:])
    lines = prompt.splitlines()
    start = lines.index(f"Question: {asked[0]}")
    assert lines[start + 1 : start + 1 + len(asked[1])] == asked[1]
    assert not any(line.startswith("A. ") for line in lines[start + 1 + len(asked[1]) :])


@pytest.mark.parametrize(
    ("name", "kind"), [("f.png", "PNG"), ("f.jpg", "JPEG"), ("F.JPEG", "JPEG"), ("f.webp", "WEBP")]
)
def test_a_figure_has_the_format_of_its_name_and_may_be_replaced(
    server: Server, image: str, tmp_path: Path, name: str, kind: str
) -> None:
    for _ in range(2):
        result = ask(server, image, "--save", tmp_path / name)
        assert result.exit_code == 0, result.output
    with PIL.Image.open(tmp_path / name) as saved:
        assert (saved.format, saved.width) == (kind, 1600)


def test_the_model_comes_from_the_environment(server: Server, image: str) -> None:
    model = {"P2R_MODEL": f"{server.url}#served"}
    for arguments in (["answer", image, "Which?"], ["answer", image, "Which?", "--model", "nope"]):
        result = CliRunner().invoke(app, arguments, env=model)
        assert (result.exit_code == 0) == ("--model" not in arguments), "an option goes first"


def test_verbose_logs_to_stderr_only(server: Server, image: str) -> None:
    quiet, loud = ask(server, image, "--json"), ask(server, image, "--json", "-vv")
    assert quiet.stderr == ""
    for part in ("400×300 pixels", "settings", "bus", "perceive in", "200 OK"):
        assert part in loud.stderr, part
    assert json.loads(loud.stdout)["answer"] == json.loads(quiet.stdout)["answer"]


# Help


COMMANDS = ["answer", "demo", "eval", "batch", "report", "serve", "train", "scenes", "data", "doctor"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_fits_80_columns(command: str) -> None:
    short, long = run(command, "-h", width=80), run(command, "--help", width=80)
    assert short.stdout == long.stdout
    _, _, examples = long.stdout.partition("\n  Examples:\n")
    lines = examples.strip().splitlines()
    assert lines, "there are examples"
    assert all(line.strip().startswith("p2r ") for line in lines)
    assert any(line.strip().startswith(f"p2r {command}") for line in lines)
    assert max(map(len, long.stdout.splitlines())) <= 80
    assert "list[" not in long.stdout


def test_no_description_is_cut_in_the_list_of_commands() -> None:
    listed = run("--help", width=80).stdout.split("Commands:")[1]
    assert "..." not in listed
    assert all(f"\n  {command} " in listed for command in COMMANDS)


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("p2r an", ["answer"]),
        ("p2r answer x What --mode ", ["p2r", "think", "direct"]),
        ("p2r scenes out --split tr", ["train"]),
        ("p2r report ", []),  # so that the shell completes files
    ],
)
def test_a_shell_completes_commands_and_choices(words: str, completed: list[str]) -> None:
    variables = {"_P2R_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    result = CliRunner().invoke(app, prog_name="p2r", env=variables)
    assert result.stdout.split() == completed


# p2r scenes, p2r --version


def test_scenes_writes_images_and_samples(tmp_path: Path) -> None:
    out = tmp_path / "made"
    result = run("scenes", out, "--split", "validation", "--size", "640x480", "--n", 2, "--seed", 5)
    assert (result.exit_code, result.stdout) == (0, "")
    rows = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert {"id", "image", "question", "choices", "answer_type", "answer", "boxes", "family"} <= set(rows[0])
    with PIL.Image.open(out / rows[0]["image"]) as image:
        assert image.size == (640, 480)


def test_scenes_continues_and_replaces_nothing(tmp_path: Path) -> None:
    out = tmp_path / "made"
    small = ("--size", "300x300")
    for count in (1, 2, 2):
        assert run("scenes", out, *small, "-n", count).exit_code == 0
        assert len((out / "samples.jsonl").read_text().splitlines()) == count
    listed = (out / "samples.jsonl").read_bytes()
    for other in (("-n", 1), ("-n", 2, "--seed", 1), ("-n", 2, "--split", "train")):
        result = run("scenes", out, *small, *other)
        assert result.exit_code == 2
        assert "other samples" in result.stderr
        assert (out / "samples.jsonl").read_bytes() == listed


@pytest.mark.parametrize("content", [b'{"image": "mine.jpg"}\n', b"\xff\xfe"])
def test_scenes_leaves_a_users_samples_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "samples.jsonl").write_bytes(content)
    result = run("scenes", tmp_path, "--size", "300x300", "-n", 1)
    assert result.exit_code == 2
    assert "give another folder" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["samples.jsonl"]
    assert (tmp_path / "samples.jsonl").read_bytes() == content


def test_scenes_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    result = run("scenes", tmp_path, "--size", "huge")
    assert result.exit_code == 2
    assert "2k" in result.stderr
    assert run("scenes", tmp_path, "--split", "dev").exit_code == 2


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs, and two files that are none."""
    folder = tmp_path_factory.mktemp("photographs")
    image = landscape((1200, 860))
    for angle in (0, 5, 10):
        image.rotate(angle).save(folder / f"{angle}.jpg")
    (folder / "notes.txt").write_text("no image")
    PIL.Image.new("RGB", (300, 200)).save(folder / "small.png")
    return folder


def test_scenes_plants_into_photographs(tmp_path: Path, photographs: Path) -> None:
    out = tmp_path / "made"
    for count in (2, 5):
        result = run("scenes", out, "--background", photographs, "-n", count, "--object-size", 4)
        assert (result.exit_code, result.stdout) == (0, "")
        assert "left out: 2 files: notes.txt: " in result.stderr
        assert "small.png: 300×200" in result.stderr
        samples = read_samples(out / "samples.jsonl")
        assert len(samples) == count
    assert len({str(sample.question.image) for sample in samples}) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--world", "tags"), "leave out --world and --size"),
        (("--size", "2k"), "leave out --world and --size"),
        (("--object-size", "9"), "object size 9"),
    ],
)
def test_scenes_refuses_options_of_drawn_scenes(
    tmp_path: Path, photographs: Path, arguments: tuple[str, ...], words: str
) -> None:
    result = run("scenes", tmp_path / "made", "--background", photographs, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "made").exists()


def test_scenes_refuses_a_folder_without_photographs(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for background, words in (("empty", "at least three photographs"), ("none", "no such folder")):
        result = run("scenes", tmp_path / "made", "--background", tmp_path / background)
        assert result.exit_code == 2
        assert words in result.stderr
    result = run("scenes", tmp_path / "empty" / "made", "--background", tmp_path / "empty")
    assert "neither may lie in the other" in result.stderr
    assert not (tmp_path / "made").exists()


def test_version() -> None:
    assert run("--version").stdout == f"perceive-to-reason {__version__}\n"


# p2r demo


@pytest.mark.long  # eight questions and figures
def test_demo_answers_the_bundled_questions_and_draws_them(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "figures"
    result = run("demo", "--model", f"{server.url}#served", "--out", out)
    assert result.exit_code == 0
    figures = sorted(path.name for path in out.iterdir())
    assert len(figures) >= 4
    assert all(name.endswith(".png") for name in figures)
    assert len(server.requests) == 3 * len(figures), "two calls look and think, one is the one pass"
    assert "bus, [sign]" in result.stdout
    right = result.stdout.count("✓")
    assert f" of {len(figures)} right" in result.stdout
    assert right + result.stdout.count("✗") == 2 * len(figures)
    command = shlex.split(result.stdout.splitlines()[-1].partition(": ")[2])
    assert command[:2] == ["p2r", "answer"]
    assert command[-2:] == ["--model", f"{server.url}#served"]
    again = run(*command[1:])
    assert (again.exit_code, "answer    B. " in again.stdout) == (0, True), "it runs as printed"


def test_demo_reports_a_failing_model(tmp_path: Path) -> None:
    with Server([status(400, message="no such thing")]) as server:
        result = run("demo", "--model", f"{server.url}#served", "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "no such thing" in result.stderr
    assert "✓" not in result.stdout
    assert not (tmp_path / "out").exists(), "nothing is left behind"


# p2r doctor


def doctor(server: Server, tmp_path: Path, *arguments: object) -> Result:
    small = tmp_path / "small.json"
    small.write_text(json.dumps({"budget": {"overview_max_pixels": 65536, "crop_max_pixels": 65536}}))
    return run("doctor", "--model", f"{server.url}#served", "--settings", small, *arguments)


def findings(result: Result) -> dict[str, dict[str, Any]]:
    return {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}


def test_doctor_lists_what_is_installed_and_calls_the_model(tmp_path: Path) -> None:
    with Server(answering(thought=reply("<answer>A</answer>"))) as server:
        result = doctor(server, tmp_path)
        assert len(server.requests) == 2 + PROBES + 1
    assert result.exit_code == 0
    for name in ("python", "core", "extra local", "extra serve", "bundled", "cpu", "vllm"):
        assert f" {name}  " in result.stdout, name
    for line in result.stdout.splitlines():
        assert line[0] in "✓!✗", "one finding a line"
        assert ("→" in line) == (line[0] != "✓"), "a hint for each that is not fine, and only for those"
    assert "#served answers  2 calls in" in result.stdout
    assert "#served boxes  no box format fits" in result.stdout
    assert "#served budgets  an 8K image with 3 crops is sent as 240 tokens" in result.stdout
    assert "the server counts 7" in result.stdout


def test_doctor_reports_a_model_without_usable_boxes(tmp_path: Path) -> None:
    with Server(answering("I see a square.", reply("<answer>A</answer>"))) as server:
        result = doctor(server, tmp_path, "--json")
        finding = findings(result)[f"{server.url}#served boxes"]
    assert result.exit_code == 0
    assert finding["state"] == "warning"
    assert "6 replies without a box" in finding["detail"]
    assert "does not write boxes" in finding["hint"]


def test_doctor_reports_budgets_that_do_not_fit(tmp_path: Path) -> None:
    def too_long(exchange: Exchange) -> None:
        images = json.dumps(exchange.body).count("data:image")
        behave = status(400, message="longer than the context") if images > 3 else answering()[0]
        behave(exchange)

    with Server([too_long]) as server:
        result = doctor(server, tmp_path, "--json")
        finding = findings(result)[f"{server.url}#served budgets"]
    assert result.exit_code == 3
    assert not json.loads(result.stdout)["ok"]
    assert finding["state"] == "failure"
    assert "context_tokens" in finding["hint"]


def test_doctor_lists_the_extras_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert {*EXTRAS, "all"} == set(project["optional-dependencies"])
