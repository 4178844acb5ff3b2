"""`p2r serve`: the method behind the OpenAI protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2r.cli import _options as opt
from p2r.cli._console import readable_errors, say
from p2r.models import DEFAULT_MODEL

EXAMPLES = opt.examples(
    "p2r serve",
    "p2r serve --model http://localhost:8000/v1#Qwen/Qwen3-VL-8B-Instruct",
    "p2r serve --model hongxingli/P2R-4B --host 0.0.0.0 --api-key-file keys.txt",
)
_ORIGIN = "Let web pages of https://HOST call the server; repeat it, or * for all pages."


def serve(
    model: opt.Model = DEFAULT_MODEL,
    reasoner: opt.Reasoner = None,
    device: opt.Device = None,
    dtype: opt.Dtype = None,
    attention: opt.Attention = None,
    quantize: opt.Quantize = None,
    host: Annotated[str, opt.option("ADDRESS", "An address other than loopback needs a key.")] = "127.0.0.1",
    port: Annotated[int, opt.option("PORT", "The port of the server; 0 takes a free one.")] = 8100,
    ui: Annotated[bool, typer.Option("--ui/--no-ui", help="A page at / for questions in a browser.")] = True,
    api_key_file: Annotated[Path | None, opt.path_option("FILE", "Bearer keys, one a line.")] = None,
    concurrency: Annotated[int, opt.option("N", "Requests answered at once.")] = 16,
    queue: Annotated[int, opt.option("N", "Requests that may wait; further ones get 429.")] = 64,
    timeout: Annotated[float, opt.option("S", "Of one request.")] = 120.0,
    drain: Annotated[float, opt.option("S", "For accepted requests, after SIGTERM.")] = 30.0,
    allow_image_host: Annotated[
        list[str], opt.option("HOST", "Fetch http(s) images from it; repeat it for more.")
    ] = [],  # noqa: B006  (typer copies it)
    allow_origin: Annotated[list[str], opt.option("ORIGIN", _ORIGIN)] = [],  # noqa: B006
    looks: opt.Looks = None,
    prompts: opt.PromptsFile = None,
    settings: opt.SettingsFile = None,
    changes: opt.Set = [],  # noqa: B006
    verbose: opt.Verbose = 0,
    debug: opt.Debug = False,
) -> None:
    """Serve the method to OpenAI clients.

    Exit codes: 0 ended by a signal, 2 wrong usage, 3 the model cannot be opened.
    """
    import asyncio
    from contextlib import ExitStack

    with readable_errors(debug=debug, verbose=verbose):
        from p2r.checks import require_extra
        from p2r.pipeline import P2R

        require_extra("serve")
        from p2r.serving.auth import read_keys
        from p2r.serving.config import ServingConfig
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
        model, reasoner = opt.placed([model, reasoner], device, dtype, attention, quantize)
        with ExitStack() as closing:
            # Before the model, which may take minutes to load.
            sockets = [closing.enter_context(each) for each in bind(config)]
            chosen = opt.read_settings(model, settings, prompts, changes, looks)
            log_to_stderr()
            p2r = P2R(model, reasoner=reasoner, settings=chosen, limits=config.image, concurrency=concurrency)
            address = f"http://{f'[{host}]' if ':' in host else host}:{sockets[0].getsockname()[1]}"
            say("serving", "bold", f"{model}; the base URL of clients is {address}/v1")
            if ui:
                say("page", "dim", f"{address}/")
            asyncio.run(run(p2r, config, sockets))
