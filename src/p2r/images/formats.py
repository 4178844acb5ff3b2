"""The format of a file, from its first bytes: those that are read, and others with what to do instead."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from p2r.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

HEAD_BYTES = 1024  # of a file, by which it is recognized


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: what messages and documents call it.
        signature: a pattern of its first bytes.
        hint: what to do if it is not read.
        decoder: libvips' loader (`jpegload`), `pillow-heif`, `pdfium`, or Pillow's name of the format
            (`BMP`); empty if it is not read.
    """

    name: str
    signature: bytes
    hint: str = ""
    decoder: str = ""


_TO_PNG = "save it as PNG"
_BY_PILLOW = "save it as PNG, or give the PIL image: PIL.Image.open(path)"
_TO_8_BIT = "map its values to 8 bits, and give the array or a PNG"
DEVELOP = "develop it first; rawpy.imread(path).postprocess() gives an array that is read"
_FRAME = "take a frame of it: ffmpeg -i FILE -frames:v 1 frame.png"
_UNPACK = "unpack it and give the image in it"
_EXPORT = "export the page or the image in it as PNG"
_BOM = rb"(?:\xef\xbb\xbf)?\s*"

# The first that matches decides. TIFF, ISO media (ftyp), RIFF, ZIP and XML are containers: their narrower
# kinds come first. No pattern may need exponential time for hostile bytes.
FORMATS: tuple[Format, ...] = (
    Format("JPEG", rb"\xff\xd8\xff", decoder="jpegload"),
    Format("PNG", rb"\x89PNG\r\n\x1a\n", decoder="pngload"),
    Format("WebP", rb"RIFF.{4}WEBP", decoder="webpload"),
    # The first is Canon's. Other raw files that are TIFF files are recognized by their directories (`tiff`).
    Format(
        "a camera raw file",
        rb"II[*]\0.{4}CR|IIU\0|IIR[OS]|MMOR|FUJIFILMCCD-RAW|FOVb|\0MRM|II.{4}HEAPCCDR|.{4}ftypcrx ",
        DEVELOP,
    ),
    Format("TIFF", rb"II[*+]\0|MM\0[*+]", decoder="tiffload"),
    Format("GIF", rb"GIF8[79]a", decoder="gifload"),
    Format("AVIF", rb".{4}ftyp(?:.{4}){0,12}avi[fs]", decoder="heifload"),
    Format(
        "a HEIF image sequence without a still image",
        rb".{4}ftyp(?!(?:.{4}){0,12}(?:mif1|hei[cxmsf]))(?:.{4}){0,12}(?:msf1|hev[cmxs])",
        _FRAME,
    ),
    Format(
        "HEIC",
        rb".{4}ftyp(?:.{4}){0,12}(?:hei[cxmsf]|hev[cmxs]|mi[af][123f]|msf1)",
        decoder="pillow-heif",
    ),
    Format("BMP", rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", decoder="BMP"),
    Format("JPEG 2000", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", decoder="JPEG2000"),
    Format("PNM", rb"P[1-6]\s", decoder="PPM"),
    Format(
        "PNG with changed first bytes",
        rb".PNG[\r\n\x1a ]|\x89PN.\r\n",
        "transfer it again as binary, not as text",
    ),
    Format("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", f"{_TO_PNG}: djxl FILE image.png"),
    Format("JPEG XR", rb"II\xbc[\0\x01]", _TO_PNG),
    Format("PDF", rb".{0,1019}%PDF-", "render its page: pdftoppm -png -r 300 FILE page", decoder="pdfium"),
    Format("PostScript", rb"%!PS|\xc5\xd0\xd3\xc6", "render it: gs -sDEVICE=png16m -r200 -o page.png FILE"),
    Format("DjVu", rb"AT&TFORM", "render its page: ddjvu -format=tiff -page=1 FILE page.tif"),
    Format(
        "an HTML page",
        _BOM + rb"(?:<!--(?:(?!-->).)*-->\s*)*<(?i:!doctype html|html|head|body|script)",
        "it may be the error page of a download: get the image itself",
    ),
    Format(
        "SVG",
        _BOM + rb"<(?:[^\0]*<)?(?:!DOCTYPE svg|(?:\w+:)?svg)[\s>]",
        "render it: rsvg-convert -w 2000 FILE -o image.png",
    ),
    Format(
        "DICOM",
        rb".{128}DICM",
        "map its window to 8 bits, for example with pydicom's apply_voi_lut, and give the array",
    ),
    Format("Photoshop (PSD)", rb"8BPS", _BY_PILLOW),
    Format("GIMP (XCF)", rb"gimp xcf", "export it as PNG"),
    Format("OpenEXR", rb"\x76\x2f\x31\x01", _TO_8_BIT),
    Format("Radiance HDR", rb"#\?(?:RADIANCE|RGBE)", _TO_8_BIT),
    Format("PFM", rb"P[Ff]\s", _TO_8_BIT),
    Format("PAM", rb"P7\n", f"{_TO_PNG}: pamtopng FILE > image.png"),
    Format("FITS", rb"SIMPLE  =", _TO_8_BIT),
    Format("an HDF5 file", rb"\x89HDF\r\n\x1a\n", _TO_8_BIT),
    Format("a NumPy array", rb"\x93NUMPY", "give the array: numpy.load(path)"),
    Format("ICO", rb"\0\0[\x01\x02]\0[^\0]\0.{3}\0", _BY_PILLOW),
    Format("ICNS", rb"icns", _BY_PILLOW),
    Format("PCX", rb"\x0a[\0\x02-\x05]\x01[\x01\x02\x04\x08]", _BY_PILLOW),
    Format("DDS", rb"DDS \x7c\0\0\0", _BY_PILLOW),
    Format("QOI", rb"qoif", _BY_PILLOW),
    Format("SGI", rb"\x01\xda[\0\x01][\x01\x02]", _BY_PILLOW),
    Format("Sun raster", rb"\x59\xa6\x6a\x95", _BY_PILLOW),
    Format("XPM", rb"/\* XPM \*/", _BY_PILLOW),
    Format("XBM", rb"(?:/\*.*\*/)?\s*#define\s+\S*_width\s", _BY_PILLOW),
    # The color map is described, or absent and zero; then origin, width, height, bits and flags.
    Format(
        "TGA",
        rb".(?:\0[\x02\x03\x0a\x0b]\0{5}|\x01[\x01\x09].{4}[\x0f\x10\x18\x20]).{8}"
        rb"[\x08\x0f\x10\x18\x20][\0-\x3f]",
        _BY_PILLOW,
    ),
    Format("WMF", rb"\xd7\xcd\xc6\x9a|\x01\0\x09\0\0[\x01\x03]", "render it as PNG"),
    Format("EMF", rb"\x01\0\0\0.{36} EMF", "render it as PNG"),
    Format("PICT", rb".{522}(?:\0\x11\x02\xff|\x11\x01)", _TO_PNG),
    Format("IFF", rb"FORM.{4}(?:ILBM|PBM )", _TO_PNG),
    Format("MNG", rb"\x8a[MJ]NG\r\n|\x8bJNG\r\n", _TO_PNG),
    Format("an animated cursor", rb"RIFF.{4}ACON", _TO_PNG),
    Format("an AVI video", rb"RIFF.{4}AVI ", _FRAME),
    Format("a WebM or Matroska video", rb"\x1a\x45\xdf\xa3", _FRAME),
    Format("an MPEG video", rb"\0\0\x01[\xb3\xba]|G.{187}G.{187}G", _FRAME),
    Format("an MP4 or QuickTime video", rb".{4}(?:ftyp|moov|mdat|wide|free|skip|pnot)", _FRAME),
    Format(
        "an Office document",
        rb"PK\x03\x04.{26}(?:\[Content_Types\]|_rels/|mimetypeapplication/vnd[.]oasis)"
        rb"|\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        _EXPORT,
    ),
    Format(
        "an OpenRaster or Krita image",
        rb"PK\x03\x04.{26}mimetype(?:image/openraster|application/x-krita)",
        "export it as PNG",
    ),
    Format("an archive", rb"PK\x03\x04|PK\x05\x06|7z\xbc\xaf\x27\x1c|Rar!\x1a\x07|.{257}ustar", _UNPACK),
    Format(
        "a compressed file",
        rb"\x1f\x8b\x08|\x28\xb5\x2f\xfd|BZh[1-9]1AY|\xfd7zXZ\0|\x04\x22\x4d\x18",
        _UNPACK,
    ),
    Format("a Git LFS pointer", rb"version https://git-lfs", "get the file itself: git lfs pull"),
    Format(
        "base64 text",
        rb"(?:data:image/|/9j/4|iVBORw0KGgo|R0lGOD|UklGR)[\w+/=\s:;,.-]*\Z",
        "decode it, or give it as text that begins with data:",
    ),
    Format("an XML file", _BOM + rb"<\?xml", "give the image itself"),
    Format("JSON", _BOM + rb"[{\[]\s*[\"{\[\]}\d-][\x09\x0a\x0d\x20-\xff]*\Z", "give the image itself"),
    Format(
        "a text file",
        rb"(?:[\t-\r\x1b\x20-\x7e]|[\xc2-\xf4][\x80-\xbf]{1,3})+[\xc2-\xf4]?[\x80-\xbf]{0,2}\Z",
        "give the image itself",
    ),
    Format("a file of zeros", rb"\0+\Z", "copy or download it again"),
)

_READ = ", ".join(kind.name for kind in FORMATS if kind.decoder)


def identify(name: str, head: bytes) -> Format:
    """The format of a file that is read, from its first `HEAD_BYTES`.

    Raises:
        InputError: it is not read; the text says what the file is and what to do, or which formats are read.
    """
    kind = next((kind for kind in FORMATS if re.match(kind.signature, head, re.DOTALL)), None)
    if kind is None:
        raise InputError(f"{name}: not an image in a known format ({_READ})")
    if not kind.decoder:
        raise InputError(f"{name}: this is {kind.name}: {kind.hint}")
    return kind


def open_binary(origin: Path | bytes) -> BinaryIO:
    """A file, unbuffered, or bytes as a file."""
    return (
        io.BytesIO(origin) if isinstance(origin, bytes) else cast("BinaryIO", origin.open("rb", buffering=0))
    )
