"""What is on the page, made with Gradio."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.errors import MissingExtraError

try:
    import gradio as gr
except ImportError as error:
    raise MissingExtraError("serve", "gradio") from error
from fastapi import FastAPI

from p2r.nano import NAMES
from p2r.serving.page import markup
from p2r.serving.page.asking import PARTS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from p2r.pipeline import P2R
    from p2r.serving.page.asking import Asking
    from p2r.serving.page.gallery import Gallery

MOST_SESSIONS = 500
_HERE = Path(__file__).parent
_PICKER = """
<div class="p2r-drop">
  <label for="p2r-file">Drop a picture here, paste it, or <span>choose a file</span></label>
  <input id="p2r-file" type="file" accept="image/*,.tif,.tiff" aria-describedby="p2r-file-said">
  <img alt="The picture that is asked about" hidden>
  <p id="p2r-file-said" role="status"></p>
</div>
"""
_CHOOSE = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  props.value = button.dataset.scene;
  trigger("select");
});
"""
_NANO = (
    "{name} answers here. It is very small: it can read digits, codes and colours of tags and plates, "
    "compare and add them, say where they are and what covers the ground, in scenes such as the examples. In "
    "photographs it sees nothing: about any picture that p2r scenes did not draw, its answer means nothing. "
    "For those, start the server with another model: p2r serve --model hongxingli/P2R-4B."
)


def page_app(p2r: P2R, gallery: Gallery, asking: Asking) -> FastAPI:
    """Gradio's application with our page on it; its lifespan must be run.

    Raises:
        MissingExtraError: Gradio is not installed (when this module is imported).
    """
    with gr.Blocks(title="perceive-to-reason", analytics_enabled=False) as blocks:
        _lay_out(p2r, gallery, asking)
    # What Gradio remembers of each: the last question.
    blocks.state_session_capacity = MOST_SESSIONS
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # No fonts and scripts from elsewhere; no pages of Gradio's own.
    theme = gr.themes.Base(
        primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    page: FastAPI = gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        max_file_size=1,
        theme=theme,
        css=(_HERE / "page.css").read_text(encoding="utf-8"),
    )
    return page


def _lay_out(p2r: P2R, gallery: Gallery, asking: Asking) -> None:
    gr.HTML("<h1>perceive-to-reason</h1><p>Look first, think second: ask about a detail of a picture.</p>")
    for name in dict.fromkeys((p2r.perceiver.name, p2r.reasoner.name)):
        if name in NAMES:
            gr.HTML(markup.note(_NANO.format(name=name)))
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            picture = gr.HTML(
                "",
                html_template=_PICKER,
                js_on_load=(_HERE / "picker.js").read_text(encoding="utf-8"),
                elem_id="p2r-picture",
            )
        with gr.Column(scale=1, min_width=300):
            question = gr.Textbox(label="Question", lines=1, elem_id="p2r-question")
            choices = gr.Textbox(label="Options, one on each line (optional)", lines=3, elem_id="p2r-choices")
            compare = gr.Checkbox(
                value=True, label="Compare with one pass over the plain picture", elem_id="p2r-compare"
            )
            ask = gr.Button("Ask", variant="primary", elem_id="p2r-ask")
    with gr.Accordion("Examples", open=True):
        examples = gr.HTML(
            "",
            html_template=markup.examples(gallery.scenes),
            js_on_load=_CHOOSE,
            elem_id="p2r-examples",
        )
    status = gr.HTML("", elem_id="p2r-status")
    evidence = gr.HTML("", elem_id="p2r-evidence")
    with gr.Row(equal_height=True, elem_classes="p2r-row"):
        looked = gr.HTML("", elem_id="p2r-looked", min_width=300)
        one_pass = gr.HTML("", elem_id="p2r-one-pass", min_width=300)
    links = gr.HTML("", elem_id="p2r-links")
    parts = dict(zip(PARTS, (status, evidence, looked, one_pass, links), strict=True))

    async def answer(name: str, text: str, options: str, both: bool) -> AsyncGenerator[list[Any]]:
        async for changes in asking.ask(name or "", text or "", options or "", compare=bool(both)):
            yield [changes.get(part, gr.skip()) for part in parts]

    def example(name: str) -> tuple[str, str, str]:
        asked = gallery.scenes[name].question
        return name, asked.text, "\n".join(asked.choices)

    examples.select(
        example, [examples], [picture, question, choices], show_progress="hidden", api_visibility="private"
    )
    gr.on(
        [ask.click, question.submit],
        answer,
        [picture, question, choices, compare],
        list(parts.values()),
        show_progress="hidden",
        concurrency_limit=None,  # the server's own queue decides
        api_visibility="private",
    )
