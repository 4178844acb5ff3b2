"""Images from files, bytes, PIL images and arrays, at the size that a model is shown.

- `source`: `ImageSource`, an opened image: the whole of it or a rectangle of it, at a size.
- `formats`: the format of a file, by its first bytes; `metadata`: what libvips does not say of one.
- `decoders`, `tiff`, `tiff_pages`: files through libvips (`_vips`); `depth` stretches deep samples.
- `pillow`, `heif`, `pdf`: numpy arrays, PIL images, and files that are decoded whole.
- `sizing`: the size at which a model is shown an image, and resizing.
- `encoding`: `EncodedImage`, final pixels, and their encoding for transport.
- `levels`: copies that people look at.
- `limits`, `threads`: limits of an image, the memory budget, and threads with cancellation.

Every failure to read an image is an `InputError`.
"""

from p2r.images._vips import RectPx
from p2r.images.encoding import PNG_MAX_PIXELS, EncodedImage, encode_all
from p2r.images.limits import Limits
from p2r.images.sizing import smart_resize
from p2r.images.source import ImageInput, ImageSource, open_images, open_pages

__all__ = [
    "PNG_MAX_PIXELS",
    "EncodedImage",
    "ImageInput",
    "ImageSource",
    "Limits",
    "RectPx",
    "encode_all",
    "open_images",
    "open_pages",
    "smart_resize",
]
