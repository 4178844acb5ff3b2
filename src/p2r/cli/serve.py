"""`p2r serve`: the method behind the OpenAI protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2r.cli.console import readable_errors, say
from p2r.cli.options import (
    DebugOption,
    ModelOption,
    PromptsOption,
    ReasonerOption,
    SetOption,
    SettingsOption,
    VerboseOption,
    as_path,
    check_model,
    examples,
    read_settings,
)
from p2r.models import DEFAULT_MODEL

EXAMPLES = examples(
    "p2r serve",
    "p2r serve --model http://localhost:8000/v1#Qwen/Qwen3-VL-8B-Instruct",
    "p2r serve --model hongxingli/P2R-4B --host 0.0.0.0 --api-key-file keys.txt",
)


def serve(
    model: ModelOption = DEFAULT_MODEL,
    reasoner: ReasonerOption = None,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Other than loopback needs a key.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", help="Where clients connect; 0 takes a free one.")
    ] = 8100,
    ui: Annotated[bool, typer.Option("--ui/--no-ui", help="A page at / to ask and watch.")] = True,
    api_key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", metavar="FILE", parser=as_path, help="Bearer keys, one a line."),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", metavar="N", help="Questions answered at once.")
    ] = 16,
    queue: Annotated[
        int, typer.Option("--queue", metavar="N", help="How many more may wait; then 429.")
    ] = 64,
    timeout: Annotated[float, typer.Option("--timeout", metavar="S", help="Of one request.")] = 120.0,
    drain: Annotated[
        float, typer.Option("--drain", metavar="S", help="For accepted requests, after SIGTERM.")
    ] = 30.0,
    allow_image_host: Annotated[
        list[str],
        typer.Option("--allow-image-host", metavar="HOST", help="Fetch http(s) images from it; repeat it."),
    ] = [],  # noqa: B006  (typer copies it)
    allow_origin: Annotated[
        list[str],
        typer.Option(
            "--allow-origin",
            metavar="ORIGIN",
            help="Let web pages of https://HOST ask from a browser; repeat it, or * for all pages.",
        ),
    ] = [],  # noqa: B006  (typer copies it)
    prompts: PromptsOption = None,
    settings: SettingsOption = None,
    changes: SetOption = [],  # noqa: B006
    verbose: VerboseOption = 0,
    debug: DebugOption = False,
) -> None:
    """Serve the method to OpenAI clients.

    Exit codes: 0 ended by a signal, 2 wrong usage, 3 the model cannot be opened.
    """
    import asyncio
    from contextlib import ExitStack

    with readable_errors(debug=debug, verbose=verbose):
        from p2r.pipeline import P2R
        from p2r.serving.config import ServingConfig
        from p2r.serving.auth import read_keys
        from p2r.serving.server import bind, log_to_stderr
        from p2r.serving.server import serve as run

        config = ServingConfig(
            host=host,
            port=port,
            api_keys=read_keys(api_key_file) if api_key_file else (),
            concurrency=concurrency,
            queue=queue,
            timeout_s=timeout,
            drain_s=drain,
            image_hosts=tuple(allow_image_host),
            allow_origins=tuple(allow_origin),
            ui=ui,
        )
        check_model(reasoner)
        with ExitStack() as closing:
            # Before the model, which may take minutes to load.
            sockets = [closing.enter_context(each) for each in bind(config)]
            chosen = read_settings(model, settings, prompts, changes)
            log_to_stderr()
            p2r = P2R(model, reasoner=reasoner, settings=chosen, limits=config.image, concurrency=concurrency)
            address = f"http://{f'[{host}]' if ':' in host else host}:{sockets[0].getsockname()[1]}"
            say("serving", "bold", f"{model}; the base URL of clients is {address}/v1")
            if ui:
                say("page", "dim", f"{address}/")
            asyncio.run(run(p2r, config, sockets))
