"""An image of a request: from its field to an opened image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2r.errors import InputError
from p2r.images import ImageSource
from p2r.images.source import decode_data_uri
from p2r.images.threads import in_image_thread
from p2r.serving.errors import APIError
from p2r.serving.page.store import SCHEME
from p2r.text import is_data_uri

if TYPE_CHECKING:
    from p2r.serving.config import ServingConfig
    from p2r.serving.fetching import ImageFetcher
    from p2r.serving.http import HeldMemory
    from p2r.serving.page.store import HeldImage, Store


@dataclass(slots=True)
class RequestImage:
    """An image of a request.

    Attributes:
        data: its address, and its bytes once they are decoded.
        path: of its field.
        name: of its bytes, for errors.
        upload: if it was uploaded.
    """

    data: str | bytes
    path: str
    name: str = ""
    upload: HeldImage | None = None

    def load(self, config: ServingConfig, uploads: Store) -> None:
        """Decode a `data:` URI, which frees its text, or find the upload; other addresses are left.

        Raises:
            APIError: it cannot be decoded or found; names the field.
        """
        if not isinstance(self.data, str):
            return
        if self.data.startswith(SCHEME):
            self.upload = uploads.image(self.data.removeprefix(SCHEME))
            if self.upload is None:
                raise self.invalid(InputError("the image is not here any more: upload it again"))
        elif is_data_uri(self.data):
            try:
                self.name, self.data = decode_data_uri(self.data, config.image)
            except InputError as error:
                raise self.invalid(error) from None

    async def source(self, fetcher: ImageFetcher, config: ServingConfig, held: HeldMemory) -> ImageSource:
        """The image, fetched if it is an address; `held` counts its bytes too.

        Raises:
            APIError: the image cannot be used; names the field.
        """
        if self.upload:
            return self.upload.source
        before = held.nbytes
        try:
            if isinstance(self.data, str):
                self.data = await fetcher.fetch(self.data, lambda nbytes: held.resize(before + nbytes))
            # Never a text, which would be read as a path.
            return await in_image_thread(ImageSource.open, self.data, config.image, name=self.name)
        except InputError as error:
            raise self.invalid(error) from None

    def invalid(self, error: InputError) -> APIError:
        """The image cannot be used."""
        return APIError(400, str(error), param=self.path, code="invalid_image")
