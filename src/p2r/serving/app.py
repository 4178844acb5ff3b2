"""The ASGI application: routes, access control, and one shape for every error."""

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
from p2r.serving.auth import AuthMiddleware, CrossOrigin
from p2r.serving.errors import APIError, ErrorBody, internal_error
from p2r.serving.exchange import Exchange, ServedP2R, Service
from p2r.serving.fetching import ImageFetcher
from p2r.serving.limiter import Limiter
from p2r.serving.metrics import Metrics, Readiness
from p2r.serving.page.routes import Page
from p2r.serving.page.store import Store
from p2r.serving.request import known_model
from p2r.serving.response import ChatWriter
from p2r.serving.responses import ResponsesWriter
from p2r.serving.schema import MODEL_NAMES, ChatCompletion, ListedModel, ModelList

if TYPE_CHECKING:
    from p2r.pipeline import P2R
    from p2r.serving.config import ServingConfig

_ROUTES = "POST /v1/chat/completions, POST /v1/responses, GET /v1/models"
_CREATED = 1_782_864_000  # of the models, as the protocol requires it: 1 July 2026
_REF = "#/components/schemas/{model}"
_PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC"
)
_EXAMPLE_TEXT = "Which color is the glove?\nA. red\nB. black"
_CHAT_PARTS: list[dict[str, Any]] = [
    {"type": "image_url", "image_url": {"url": _PIXEL}},
    {"type": "text", "text": _EXAMPLE_TEXT},
]
_RESPONSES_PARTS: list[dict[str, Any]] = [
    {"type": "input_image", "image_url": _PIXEL},
    {"type": "input_text", "text": _EXAMPLE_TEXT},
]
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
        403: "A server without keys, under another name than localhost",
        404: "No such model",
        408: "The body came too slowly",
        413: "The body is too large",
        415: "The body is not application/json",
        429: "The queue is full; see Retry-After",
        500: "The model failed",
        502: "The model failed",
        503: "The model cannot be reached, or the server is shutting down",
        504: "The deadline has passed",
    }.items()
}


def create_app(p2r: P2R, config: ServingConfig, fetcher: ImageFetcher | None = None) -> FastAPI:
    """The application of a pipeline, which its owner closes.

    Args:
        p2r: answers the questions.
        config: limits, keys, allowed hosts.
        fetcher: fetches images by address; None for one that follows `config`.
    """
    limiter, memory = Limiter(config.concurrency, config.queue), MemoryBudget(config.held_bytes)
    service = Service(
        ServedP2R(p2r, limiter),
        config,
        limiter,
        memory,
        Metrics(limiter),
        fetcher or ImageFetcher(config.image_hosts, config.image.max_bytes),
        Store(config.uploads_bytes, config.upload),
    )
    # Without FastAPI's own pages, which load scripts from elsewhere.
    app = FastAPI(title="perceive-to-reason", version=__version__, docs_url=None, redoc_url=None)
    app.state.limiter, app.state.memory, app.state.uploads = limiter, memory, service.uploads
    _add_error_handlers(app)
    _add_protocols(app, service)
    _add_operations(app, service, Readiness(p2r))
    if config.ui:
        app.include_router(Page(service).router())
    app.add_middleware(AuthMiddleware, config=config)
    if config.allow_origins:
        # Outermost, so that pages can read a refusal; a preflight comes without a key.
        app.add_middleware(CrossOrigin, origins=config.allow_origins)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(APIError)
    async def api_error(_: Request, error: APIError) -> Response:
        return error.response()

    @app.exception_handler(InputError)
    async def input_error(_: Request, error: InputError) -> Response:
        return APIError(400, str(error), code="invalid_image").response()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        message, path = str(error.detail), request.url.path[:200]
        allowed = (error.headers or {}).get("Allow", "")
        if error.status_code == 404:
            message = f"there is no {path}: the routes are {_ROUTES} (the base URL of clients ends in /v1)"
        elif error.status_code == 405 and request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": f"{allowed}, OPTIONS"})
        elif error.status_code == 405:
            message = f"{path} takes {allowed}, not {request.method}"
        return APIError(error.status_code, message, headers=error.headers).response()

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:
        return internal_error(error).response()


def _add_protocols(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/chat/completions",
        response_model=ChatCompletion,
        responses={200: _STREAM, **_ERRORS},
        openapi_extra=_body("ChatRequest", "messages", _CHAT_PARTS),
        summary="Ask a question about an image",
    )
    async def chat() -> Response:
        return Exchange(service, ChatWriter)

    @app.post(
        "/v1/responses",
        response_model=dict[str, Any],
        responses={200: _STREAM, **_ERRORS},
        openapi_extra=_body("ResponsesRequest", "input", _RESPONSES_PARTS),
        summary="Ask a question about an image, in the newer protocol",
    )
    async def respond() -> Response:
        return Exchange(service, ResponsesWriter)

    @app.get("/v1/models", responses={200: _MODEL_LINK, **_only(401, 403)}, summary="The models")
    async def models() -> ModelList:
        return ModelList(data=[ListedModel(id=name, created=_CREATED) for name in MODEL_NAMES])

    @app.get("/v1/models/{name}", operation_id="model", responses=_only(401, 403, 404), summary="One model")
    async def model(name: str) -> ListedModel:
        return ListedModel(id=known_model(name), created=_CREATED)


def _add_operations(app: FastAPI, service: Service, readiness: Readiness) -> None:
    @app.get("/healthz", responses=_only(403), summary="Whether the server runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", responses=_only(403, 503), summary="Whether the models answer")
    async def readyz() -> Response:
        if problem := await readiness.problem():
            raise APIError(503, f"not ready: {problem}", code="not_ready")
        return JSONResponse({"status": "ready"})

    @app.get(
        "/metrics", responses=_only(401, 403), response_class=PlainTextResponse, summary="For Prometheus"
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _body(model: str, field: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    value = {"model": "p2r", field: [{"role": "user", "content": parts}]}
    content = {
        "schema": {"$ref": _REF.format(model=model)},
        "examples": {"choice": {"summary": "A question with options", "value": value}},
    }
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def _only(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: _ERRORS[status] for status in statuses}


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        # `Exchange` reads the bodies, so FastAPI does not know their models.
        for writer in (ChatWriter, ResponsesWriter):
            request = writer.request_type.model_json_schema(ref_template=_REF)
            schema["components"]["schemas"].update(request.pop("$defs"))
            schema["components"]["schemas"][writer.request_type.__name__] = request
        app.openapi_schema = schema
    return app.openapi_schema
