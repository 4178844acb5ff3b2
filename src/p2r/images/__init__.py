"""Images from files, bytes, PIL images and arrays, at the size that a model is shown.

- `source`: `ImageSource`, an opened image: the whole of it or a rectangle of it, at a size.
- `formats`: what a file is, by its first bytes, and which decoder reads it.
- `decoders`, `files`, `tiff`: files through libvips; `depth` stretches samples of more than 8 bits.
- `whole`, `heif`, `pillow`: files that are decoded whole, HEIC, PIL images and numpy arrays.
- `limits`, `memory`, `abandoning`: what an image may have at most, what is decoded at a time, when that ends.
- `sizing`: the sizes at which models are shown images.
- `encoding`: `EncodedImage`, final pixels, and how they travel.

Every failure to read an image is an `InputError`.
"""

from p2r.images.encoding import PNG_MAX_PIXELS, EncodedImage, encode_all
from p2r.images.limits import Limits
from p2r.images.sizing import smart_resize
from p2r.images.source import ImageInput, ImageSource

__all__ = [
    "PNG_MAX_PIXELS",
    "EncodedImage",
    "ImageInput",
    "ImageSource",
    "Limits",
    "encode_all",
    "smart_resize",
]
