"""Takes pictures of the page and hands out previews and results. Not part of the protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from p2r.errors import InputError
from p2r.images.abandoning import in_image_thread
from p2r.serving.body import read_body
from p2r.serving.failures import RequestFailed
from p2r.serving.memory import HeldMemory

if TYPE_CHECKING:
    from p2r.serving.exchange import Service
    from p2r.serving.page.asking import Asking
    from p2r.serving.page.gallery import Gallery

_KEPT = {"Cache-Control": "private, max-age=3600"}


def page_routes(service: Service, gallery: Gallery, asking: Asking) -> APIRouter:
    """The routes under `/page`, and the manifest that Gradio's page asks for."""
    router = APIRouter(include_in_schema=False)

    @router.get("/manifest.json")
    async def manifest() -> dict[str, str]:
        return {"name": "perceive-to-reason", "display": "browser"}

    @router.post("/page/pictures")
    async def give(request: Request) -> Response:
        # A page of another site cannot send this type without asking first.
        if request.headers.get("content-type") != "application/octet-stream":
            raise RequestFailed(415, "the Content-Type must be application/octet-stream")
        with service.admission.admitted(), HeldMemory(service.memory) as held:
            config = service.config
            data = bytes(await read_body(request, config, held, config.picture.max_bytes))
            try:
                name, source = await in_image_thread(gallery.take, data)
            except InputError as error:
                raise RequestFailed(400, str(error), code="invalid_image") from None
        return JSONResponse({"name": name, "width": source.width, "height": source.height})

    @router.get("/page/pictures/{name}")
    async def preview(name: str) -> Response:
        try:
            return _jpeg(await in_image_thread(gallery.preview, name))
        except InputError as error:
            raise RequestFailed(400, str(error), code="invalid_image") from None

    @router.get("/page/thumbnails/{scene}")
    async def thumbnail(scene: str) -> Response:
        return _jpeg(await in_image_thread(gallery.thumbnail, scene))

    @router.get("/page/results/{name}/{file}")
    async def result(name: str, file: str) -> Response:
        kept = asking.results.get(name)
        if kept and file == "figure.png":
            return Response(kept.figure, media_type="image/png", headers=_KEPT)
        if kept and file == "result.json":
            return Response(kept.record, media_type="application/json", headers=_KEPT)
        raise _missing()

    return router


def _jpeg(data: bytes | None) -> Response:
    if data is None:
        raise _missing()
    return Response(data, media_type="image/jpeg", headers=_KEPT)


def _missing() -> RequestFailed:
    return RequestFailed(404, "it is not here, or not any more", code="not_found")
