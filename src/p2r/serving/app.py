"""The ASGI application: routes, guards, and the error shape for whatever goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2r.errors import InputError, MissingExtraError

try:
    from fastapi import FastAPI, Request
    from fastapi.openapi.utils import get_openapi
    from prometheus_client import CONTENT_TYPE_LATEST
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse, PlainTextResponse, Response
except ImportError as error:
    raise MissingExtraError("serve", error.name or "fastapi") from error

from p2r import __version__
from p2r.images.limits import MemoryBudget
from p2r.serving import completions, responses
from p2r.serving.auth import Guards
from p2r.serving.errors import ErrorBody, RequestFailed, unexpected
from p2r.serving.exchange import Endpoint, Exchange, Service
from p2r.serving.fetching import ImageFetcher
from p2r.serving.limiter import Admission
from p2r.serving.metrics import Metrics
from p2r.serving.origins import Origins
from p2r.serving.page.routes import Page
from p2r.serving.page.store import Store
from p2r.serving.readiness import Readiness
from p2r.serving.request import known_model
from p2r.serving.responses import ResponsesRequest
from p2r.serving.schema import MODEL_NAMES, ChatCompletion, ChatRequest, ListedModel, ModelList

if TYPE_CHECKING:
    from p2r.pipeline import P2R
    from p2r.serving.config import ServingConfig

CHAT = Endpoint(ChatRequest, completions.PREFIX, completions.chat_completion, completions.Chunks)
RESPONSES = Endpoint(ResponsesRequest, responses.PREFIX, responses.response, responses.ResponseEvents)

_SERVED = "POST /v1/chat/completions, POST /v1/responses, GET /v1/models"
_MADE = 1_782_864_000  # when the models came to be, in the protocol's unit: 1 July 2026
_REF = "#/components/schemas/{model}"
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC"
_EXAMPLE = {
    "model": "p2r",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PIXEL}"}},
                {"type": "text", "text": "Which color is the glove?\nA. red\nB. black"},
            ],
        }
    ],
}
_RESPONSES_EXAMPLE = {
    "model": "p2r",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": f"data:image/png;base64,{_PIXEL}"},
                {"type": "input_text", "text": "Which color is the glove?\nA. red\nB. black"},
            ],
        }
    ],
}
_STREAM: dict[str, Any] = {
    "description": "The answer; with `stream`, server-sent events",
    "content": {"text/event-stream": {}},
}
_MODEL_LINK: dict[str, Any] = {
    "links": {"model": {"operationId": "model", "parameters": {"name": "$response.body#/data/0/id"}}}
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": description}
    for status, description in {
        400: "A field that is not served; `param` names it",
        401: "No valid key",
        403: "A server without keys, asked under another name than localhost",
        404: "No such model",
        408: "The body came too slowly",
        413: "The body is too large",
        415: "The body is not application/json",
        429: "The queue is full; see Retry-After",
        500: "The model failed",
        502: "The model failed",
        503: "The model cannot be reached, or the server is ending",
        504: "Time is up",
    }.items()
}


def create_app(p2r: P2R, config: ServingConfig, fetcher: ImageFetcher | None = None) -> FastAPI:
    """The application for a pipeline, which stays its owner's to close.

    Args:
        p2r: answers the questions.
        config: limits, keys, allowed hosts.
        fetcher: gets images by address; None for one that follows `config`.
    """
    admission, memory = Admission(config.concurrency, config.queue), MemoryBudget(config.held_bytes)
    service = Service(
        p2r,
        config,
        admission,
        memory,
        Metrics(admission),
        fetcher or ImageFetcher(config.image_hosts, config.image.max_bytes),
        Store(config.uploads_bytes, config.upload),
    )
    # No pages of FastAPI's own: they load scripts from elsewhere.
    app = FastAPI(title="perceive-to-reason", version=__version__, docs_url=None, redoc_url=None)
    app.state.admission, app.state.memory = admission, memory
    _add_error_shapes(app)
    _add_protocol(app, service)
    _add_operations(app, service, Readiness(p2r))
    if config.ui:
        app.include_router(Page(service).router())
    app.add_middleware(Guards, config=config)
    if config.allow_origins:
        # Outermost, so that a refusal can be read too; a preflight comes without a key.
        app.add_middleware(Origins, origins=config.allow_origins)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _add_error_shapes(app: FastAPI) -> None:
    @app.exception_handler(RequestFailed)
    async def failed(_: Request, error: RequestFailed) -> Response:
        return error.response()

    @app.exception_handler(InputError)
    async def unusable(_: Request, error: InputError) -> Response:
        return RequestFailed(400, str(error), code="invalid_image").response()

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        message, path = str(error.detail), request.url.path
        allowed = (error.headers or {}).get("Allow", "")
        if error.status_code == 404:
            message = f"there is no {path[:200]}: served are {_SERVED} (the base URL of clients ends in /v1)"
        elif error.status_code == 405 and request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": f"{allowed}, OPTIONS"})
        elif error.status_code == 405:
            message = f"{path[:200]} takes {allowed}, not {request.method}"
        return RequestFailed(error.status_code, message, headers=error.headers).response()

    @app.exception_handler(Exception)
    async def broke(_: Request, error: Exception) -> Response:
        return unexpected(error).response()


def _add_protocol(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/chat/completions",
        response_model=ChatCompletion,
        responses={200: _STREAM, **_ERRORS},
        openapi_extra=_body("ChatRequest", _EXAMPLE),
        summary="Ask a question about an image",
    )
    async def chat() -> Response:
        return Exchange(service, CHAT)

    @app.post(
        "/v1/responses",
        response_model=dict[str, Any],
        responses={200: _STREAM, **_ERRORS},
        openapi_extra=_body("ResponsesRequest", _RESPONSES_EXAMPLE),
        summary="Ask a question about an image, in the newer protocol",
    )
    async def respond() -> Response:
        return Exchange(service, RESPONSES)

    @app.get("/v1/models", responses={200: _MODEL_LINK, **_only(401, 403)}, summary="The ways to be answered")
    async def models() -> ModelList:
        return ModelList(data=[ListedModel(id=name, created=_MADE) for name in MODEL_NAMES])

    @app.get(
        "/v1/models/{name}",
        operation_id="model",
        responses=_only(401, 403, 404),
        summary="One of them",
    )
    async def model(name: str) -> ListedModel:
        return ListedModel(id=known_model(name), created=_MADE)


def _add_operations(app: FastAPI, service: Service, readiness: Readiness) -> None:
    @app.get("/healthz", responses=_only(403), summary="The server runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", responses=_only(403, 503), summary="The models answer")
    async def readyz() -> Response:
        if problem := await readiness.problem():
            raise RequestFailed(503, f"not ready: {problem}", code="not_ready")
        return JSONResponse({"status": "ready"})

    @app.get(
        "/metrics", responses=_only(401, 403), response_class=PlainTextResponse, summary="For Prometheus"
    )
    async def metrics() -> Response:
        return Response(service.metrics.exposed(), media_type=CONTENT_TYPE_LATEST)


def _body(model: str, example: dict[str, Any]) -> dict[str, Any]:
    content = {
        "schema": {"$ref": _REF.format(model=model)},
        "examples": {"choice": {"summary": "A question with options", "value": example}},
    }
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def _only(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: _ERRORS[status] for status in statuses}


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        # The bodies are read by our own hands, so FastAPI does not know their models.
        for kind in (ChatRequest, ResponsesRequest):
            request = kind.model_json_schema(ref_template=_REF)
            schema["components"]["schemas"].update(request.pop("$defs"))
            schema["components"]["schemas"][kind.__name__] = request
        app.openapi_schema = schema
    return app.openapi_schema
