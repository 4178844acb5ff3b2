"""What a file is, from its first bytes: the formats that are read, and others with what to do instead."""

from __future__ import annotations

import re
from dataclasses import dataclass

from p2r.errors import InputError

HEAD_BYTES = 1024  # of a file, by which it is recognized


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: what messages and documents call it.
        signature: what such a file begins with.
        decoder: libvips' loader (`jpegload`), `pillow-heif`, or Pillow's name of the format (`BMP`); empty
            when it is not read.
        instead: what to do where it is not read.
    """

    name: str
    signature: re.Pattern[bytes]
    decoder: str = ""
    instead: str = ""

    @property
    def by_libvips(self) -> bool:
        """Whether libvips reads it; the others are decoded whole into memory."""
        return self.decoder.endswith("load")


def _read(name: str, signature: bytes, decoder: str) -> Format:
    return Format(name, re.compile(signature, re.DOTALL), decoder)


def _not_read(name: str, signature: bytes, instead: str) -> Format:
    return Format(name, re.compile(signature, re.DOTALL), instead=instead)


_TO_PNG = "save it as PNG"
_BY_PILLOW = "save it as PNG, or give the PIL image: PIL.Image.open(path)"
_TO_8_BIT = "map its values to 8 bits, and give the array or a PNG"
DEVELOP = "develop it first; rawpy.imread(path).postprocess() gives an array that is read"
_FRAME = "take a frame of it: ffmpeg -i FILE -frames:v 1 frame.png"
_UNPACK = "unpack it and give the image in it"
_BOM = rb"(?:\xef\xbb\xbf)?\s*"

# The first whose signature matches decides. TIFF, ISO media (ftyp), RIFF, ZIP and XML are looked into: there
# the narrower kinds come first. None may need exponential time for hostile bytes.
FORMATS: tuple[Format, ...] = (
    _read("JPEG", rb"\xff\xd8\xff", "jpegload"),
    _read("PNG", rb"\x89PNG\r\n\x1a\n", "pngload"),
    _read("WebP", rb"RIFF.{4}WEBP", "webpload"),
    # Canon's mark. Other raw files that are TIFF files are told by their directories (`tiff`).
    _not_read("a camera raw file", rb"II[*]\0.{4}CR", DEVELOP),
    _not_read(
        "a camera raw file",
        rb"IIU\0|IIR[OS]|MMOR|FUJIFILMCCD-RAW|FOVb|\0MRM|II.{4}HEAPCCDR|.{4}ftypcrx ",
        DEVELOP,
    ),
    _read("TIFF", rb"II[*+]\0|MM\0[*+]", "tiffload"),
    _read("GIF", rb"GIF8[79]a", "gifload"),
    _read("AVIF", rb".{4}ftyp(?:.{4}){0,12}avi[fs]", "heifload"),
    _not_read(
        "a HEIF image sequence without a still image",
        rb".{4}ftyp(?!(?:.{4}){0,12}(?:mif1|hei[cxmsf]))(?:.{4}){0,12}(?:msf1|hev[cmxs])",
        _FRAME,
    ),
    _read("HEIC", rb".{4}ftyp(?:.{4}){0,12}(?:hei[cxmsf]|hev[cmxs]|mi[af][123f]|msf1)", "pillow-heif"),
    _read("BMP", rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BMP"),
    _read("JPEG 2000", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG2000"),
    _read("PNM", rb"P[1-6]\s", "PPM"),
    _not_read(
        "PNG with changed first bytes",
        rb".PNG[\r\n\x1a ]|\x89PN.\r\n",
        "transfer it again as binary, not as text",
    ),
    _not_read("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", f"{_TO_PNG}: djxl FILE image.png"),
    _not_read("JPEG XR", rb"II\xbc[\0\x01]", _TO_PNG),
    _not_read("a PDF document", rb".{0,1019}%PDF-", "render its page: pdftoppm -png -r 200 FILE page"),
    _not_read(
        "PostScript", rb"%!PS|\xc5\xd0\xd3\xc6", "render it: gs -sDEVICE=png16m -r200 -o page.png FILE"
    ),
    _not_read("DjVu", rb"AT&TFORM", "render its page: ddjvu -format=tiff -page=1 FILE page.tif"),
    _not_read(
        "an HTML page",
        _BOM + rb"(?:<!--(?:(?!-->).)*-->\s*)*<(?i:!doctype html|html|head|body|script)",
        "it may be the error page of a download: get the image itself",
    ),
    _not_read(
        "SVG",
        _BOM + rb"<(?:[^\0]*<)?(?:!DOCTYPE svg|(?:\w+:)?svg)[\s>]",
        "render it: rsvg-convert -w 2000 FILE -o image.png",
    ),
    _not_read(
        "DICOM",
        rb".{128}DICM",
        "map its window to 8 bits, for example with pydicom's apply_voi_lut, and give the array",
    ),
    _not_read("Photoshop (PSD)", rb"8BPS", _BY_PILLOW),
    _not_read("GIMP (XCF)", rb"gimp xcf", "export it as PNG"),
    _not_read("OpenEXR", rb"\x76\x2f\x31\x01", _TO_8_BIT),
    _not_read("Radiance HDR", rb"#\?(?:RADIANCE|RGBE)", _TO_8_BIT),
    _not_read("PFM", rb"P[Ff]\s", _TO_8_BIT),
    _not_read("PAM", rb"P7\n", f"{_TO_PNG}: pamtopng FILE > image.png"),
    _not_read("FITS", rb"SIMPLE  =", _TO_8_BIT),
    _not_read("an HDF5 file", rb"\x89HDF\r\n\x1a\n", _TO_8_BIT),
    _not_read("a NumPy array", rb"\x93NUMPY", "give the array: numpy.load(path)"),
    _not_read("ICO", rb"\0\0[\x01\x02]\0[^\0]\0.{3}\0", _BY_PILLOW),
    _not_read("ICNS", rb"icns", _BY_PILLOW),
    _not_read("PCX", rb"\x0a[\0\x02-\x05]\x01[\x01\x02\x04\x08]", _BY_PILLOW),
    _not_read("DDS", rb"DDS \x7c\0\0\0", _BY_PILLOW),
    _not_read("QOI", rb"qoif", _BY_PILLOW),
    _not_read("SGI", rb"\x01\xda[\0\x01][\x01\x02]", _BY_PILLOW),
    _not_read("Sun raster", rb"\x59\xa6\x6a\x95", _BY_PILLOW),
    _not_read("XPM", rb"/\* XPM \*/", _BY_PILLOW),
    _not_read("XBM", rb"(?:/\*.*\*/)?\s*#define\s+\S*_width\s", _BY_PILLOW),
    # The map of colors is described, or not there and zero; then origin, width, height, bits and flags.
    _not_read(
        "TGA",
        rb".(?:\0[\x02\x03\x0a\x0b]\0{5}|\x01[\x01\x09].{4}[\x0f\x10\x18\x20]).{8}"
        rb"[\x08\x0f\x10\x18\x20][\0-\x3f]",
        _BY_PILLOW,
    ),
    _not_read("WMF", rb"\xd7\xcd\xc6\x9a|\x01\0\x09\0\0[\x01\x03]", "render it as PNG"),
    _not_read("EMF", rb"\x01\0\0\0.{36} EMF", "render it as PNG"),
    _not_read("PICT", rb".{522}(?:\0\x11\x02\xff|\x11\x01)", _TO_PNG),
    _not_read("IFF", rb"FORM.{4}(?:ILBM|PBM )", _TO_PNG),
    _not_read("MNG", rb"\x8a[MJ]NG\r\n|\x8bJNG\r\n", _TO_PNG),
    _not_read("an animated cursor", rb"RIFF.{4}ACON", _TO_PNG),
    _not_read("an AVI video", rb"RIFF.{4}AVI ", _FRAME),
    _not_read("a WebM or Matroska video", rb"\x1a\x45\xdf\xa3", _FRAME),
    _not_read("an MPEG video", rb"\0\0\x01[\xb3\xba]|G.{187}G.{187}G", _FRAME),
    _not_read("an MP4 or QuickTime video", rb".{4}(?:ftyp|moov|mdat|wide|free|skip|pnot)", _FRAME),
    _not_read(
        "an Office document",
        rb"PK\x03\x04.{26}(?:\[Content_Types\]|_rels/|mimetypeapplication/vnd[.]oasis)",
        "export the page or the image in it as PNG",
    ),
    _not_read(
        "an Office document",
        rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "export the page or the image in it as PNG",
    ),
    _not_read(
        "an OpenRaster or Krita image",
        rb"PK\x03\x04.{26}mimetype(?:image/openraster|application/x-krita)",
        "export it as PNG",
    ),
    _not_read("an archive", rb"PK\x03\x04|PK\x05\x06|7z\xbc\xaf\x27\x1c|Rar!\x1a\x07|.{257}ustar", _UNPACK),
    _not_read(
        "a compressed file",
        rb"\x1f\x8b\x08|\x28\xb5\x2f\xfd|BZh[1-9]1AY|\xfd7zXZ\0|\x04\x22\x4d\x18",
        _UNPACK,
    ),
    _not_read("a Git LFS pointer", rb"version https://git-lfs", "get the file itself: git lfs pull"),
    _not_read(
        "base64 text",
        rb"(?:data:image/|/9j/4|iVBORw0KGgo|R0lGOD|UklGR)[\w+/=\s:;,.-]*\Z",
        "decode it, or give it as text that begins with data:",
    ),
    _not_read("an XML file", _BOM + rb"<\?xml", "give the image itself"),
    _not_read("JSON", _BOM + rb"[{\[]\s*[\"{\[\]}\d-][\x09\x0a\x0d\x20-\xff]*\Z", "give the image itself"),
    _not_read(
        "a text file",
        rb"(?:[\t-\r\x1b\x20-\x7e]|[\xc2-\xf4][\x80-\xbf]{1,3})+[\xc2-\xf4]?[\x80-\xbf]{0,2}\Z",
        "give the image itself",
    ),
    _not_read("a file of zeros", rb"\0+\Z", "copy or download it again"),
)

READ = tuple(kind.name for kind in FORMATS if kind.decoder)


def identify(name: str, head: bytes) -> Format:
    """The format of a file that is read, from its first `HEAD_BYTES`.

    Raises:
        InputError: it is not read; the text says what the file is and what to do, or which formats are read.
    """
    kind = next((kind for kind in FORMATS if kind.signature.match(head)), None)
    if kind is None:
        raise InputError(f"{name}: not an image in a known format ({', '.join(READ)})")
    if not kind.decoder:
        raise InputError(f"{name}: this is {kind.name}: {kind.instead}")
    return kind
