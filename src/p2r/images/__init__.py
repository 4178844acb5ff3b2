"""Images from files, bytes, PIL images and arrays, at the size that a model is shown.

- `source`: `ImageSource`, an opened image: the whole of it or a rectangle of it, at a size.
- `decoders`: encoded files, read through libvips.
- `pillow`: PIL images, numpy arrays and the files that Pillow decodes.
- `limits`: what an image may have at most.
- `sizing`: the sizes at which models are shown images.
- `encoding`: `Picture`, final pixels, and how they travel.

Every failure to read an image is an `InputError`.
"""

from p2r.images.encoding import PNG_MAX_PIXELS, Picture, encode_all
from p2r.images.limits import Limits
from p2r.images.sizing import fit_size
from p2r.images.source import ImageInput, ImageSource

__all__ = ["PNG_MAX_PIXELS", "ImageInput", "ImageSource", "Limits", "Picture", "encode_all", "fit_size"]
