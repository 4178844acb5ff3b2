"""The routes of the page: its files, uploads, regions of images, and results. Not part of the protocol."""

from __future__ import annotations

import asyncio
import io
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

import p2r
from p2r.datasets.samples import read_samples
from p2r.images import ImageSource
from p2r.images.threads import in_image_thread
from p2r.nano import NAMES
from p2r.serving.errors import APIError
from p2r.serving.http import HeldMemory, read_body
from p2r.serving.page.front import FRONT_PAGE, FRONT_TAG, STATIC
from p2r.serving.page.store import HeldImage
from p2r.serving.schema import MODEL_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    import PIL.Image

    from p2r.serving.exchange import Service

MAX_REGION_PIXELS = 10_000_000
_PACE_BYTES = 8 * 1024 * 1024  # of an upload; each gets as many seconds as the body of a request
_SCENES = Path(p2r.__file__).parent / "demo" / "samples.jsonl"
_UNCHANGING = {"Cache-Control": "private, max-age=3600, immutable"}


class Page:
    """The page's own routes. The bundled scenes are images that are always in the store."""

    def __init__(self, service: Service) -> None:
        self._service, self._store = service, service.uploads
        self._static = StaticFiles(directory=STATIC)
        self._scenes = []
        for asked in (sample.question for sample in read_samples(_SCENES)):
            source = ImageSource.open(asked.images[0])
            image = HeldImage(asked.id, f"{asked.id}.jpg", source, self._store.reserve(0))
            self._store.pinned[image.id] = image
            self._scenes.append({"question": asked.text, "choices": asked.choices, "image": image.record()})
        # Panning requests many regions; questions must not wait for them.
        self._reading = asyncio.Semaphore(os.cpu_count() or 1)
        self._copying = asyncio.Lock()  # one large image at a time

    def router(self) -> APIRouter:
        """The front page at `/`, and the routes under `/page`."""
        router = APIRouter(include_in_schema=False)
        router.get("/")(self.front)
        router.get("/page/static/{name}")(self.static)
        router.get("/page/config")(self.config)
        router.post("/page/images")(self.upload)
        router.get("/page/images")(self.held)
        router.get("/page/images/{name}/region")(self.region)
        router.get("/page/results/{name}.{kind}")(self.result)
        return router

    async def front(self, request: Request) -> Response:
        """The front page."""
        headers = {"ETag": FRONT_TAG}
        if request.headers.get("if-none-match") == FRONT_TAG:
            return Response(status_code=304, headers=headers)
        return HTMLResponse(FRONT_PAGE, headers=headers)

    async def static(self, request: Request, name: str) -> Response:
        """A file of the page."""
        return await self._static.get_response(name, request.scope)

    async def config(self) -> Response:
        """What the page needs to know about the server."""
        config, p2r = self._service.config, self._service.p2r
        names, crops = (p2r.perceiver.name, p2r.reasoner.name), p2r.settings.geometry.max_crops
        about = {"models": MODEL_NAMES, "names": names, "scenes_only": names[1] in NAMES}
        about |= {"fetches": bool(config.image_hosts), "examples": self._scenes}
        about |= {"evidence": (crops, config.max_evidence), "budget": asdict(p2r.settings.budget)}
        about["looks"] = (p2r.settings.looks, max(p2r.settings.looks, config.max_looks))
        return JSONResponse(about)

    async def upload(self, request: Request, name: str = "", url: str = "") -> Response:
        """Take an image: its bytes, or an address from which the server gets it."""
        size, config = request.headers.get("content-length", ""), self._service.config
        if request.headers.get("content-type") != "application/octet-stream" or not size.isdecimal():
            # A page of another site cannot send this type without asking first.
            raise APIError(415, "send application/octet-stream, with its Content-Length")
        most = config.upload.max_bytes
        timeout_s = config.body_timeout_s * (1 + min(int(size[:20]), most) / _PACE_BYTES)
        with self._service.limiter.accept(), HeldMemory(self._store) as memory:
            data = bytes(await read_body(request, memory, most, timeout_s))
            data = await self._service.fetcher.fetch(url, memory.resize) if url else data
            memory.release()
            image = await in_image_thread(self._store.add, data, name)
        return JSONResponse(image.record())

    async def held(self, ids: str = "") -> Response:
        """Which of some images are here."""
        found = map(self._store.image, ids.split(",")[:100])
        return JSONResponse([image.record() for image in found if image])

    async def region(self, name: str, rect: str = "", size: str = "") -> Response:
        """A rectangle `x0,y0,x1,y1` of an image in pixels, at a size `width,height`, as a JPEG."""
        image = self._store.image(name) or _missing()
        try:
            x0, y0, x1, y1 = map(int, rect.split(","))
            width, height = map(int, size.split(","))
        except ValueError:
            raise APIError(400, "a region is rect=x0,y0,x1,y1&size=width,height") from None
        if not (0 < width <= x1 - x0 and 0 < height <= y1 - y0 and width * height <= MAX_REGION_PIXELS):
            raise APIError(400, f"a region is not enlarged, and at most {MAX_REGION_PIXELS:,} pixels")

        if image.view is None:
            async with self._copying:
                if image.view is None:  # still: the copy serves all requests that waited for it
                    await in_image_thread(self._store.make_view, image)
        region, view = (x0, y0, x1, y1), image.view or image.source
        return await self._drawn(lambda: view.region(region, (width, height)).to_pil(), "JPEG")

    async def result(self, name: str, kind: str) -> Response:
        """A result as data, or as a figure."""
        found = self._store.result(name)
        if found and kind == "json":
            return JSONResponse(found.record, headers=_UNCHANGING)
        if not found or kind != "png":
            _missing()
        from p2r.visualization.figure import figure

        return await self._drawn(lambda: figure(found.prediction, found.question), "PNG")

    async def _drawn(self, draw: Callable[[], PIL.Image.Image], kind: str) -> Response:
        file = io.BytesIO()
        async with self._reading:
            await in_image_thread(lambda: draw().save(file, kind, quality=90))
        return Response(file.getvalue(), headers=_UNCHANGING, media_type=f"image/{kind.lower()}")


def _missing() -> NoReturn:
    raise APIError(404, "it is not here, or not any more", code="not_found")
