"""HEIC images through pillow-heif (extra `heic`), which is used directly and not registered with Pillow.

The primary image of a file is read, which may be a grid of tiles; depth maps, thumbnails and other images are
not. libheif applies rotation and mirroring itself; the EXIF orientation is not applied again, as the standard
says.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from p2r.errors import MissingExtraError
from p2r.images._vips import as_array, from_array

if TYPE_CHECKING:
    from p2r.images._vips import Size

_PQ, _HLG = 16, 18  # transfer characteristics of high dynamic range, in ISO/IEC 23091-2
_WHITE_NITS, _PEAK_NITS = 203.0, 1000.0  # of diffuse white, and of the brightest level that stays distinct
_WHITE_POINT = (0.9642, 1.0, 0.8249)  # D50
# Color primaries (9: BT.2020, 12: Display P3) as XYZ of red, green and blue, adapted to D50.
_BT709 = ((0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139))
_PRIMARIES = {
    9: ((0.6734, 0.2790, -0.0019), (0.1657, 0.6753, 0.0300), (0.1251, 0.0456, 0.7969)),
    12: ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)),
}


class HeicImage:
    """The primary image of a HEIC file, of which only the header is read.

    Attributes:
        size: `(width, height)`, upright.
        bits: 16 for gray of more than 8 bits, else 8.
        notes: what was left out or changed.

    Raises:
        MissingExtraError: pillow-heif is not installed.
        ValueError, RuntimeError, OSError, …: whatever pillow-heif raises for a file that it cannot read.
    """

    orientation = 1  # libheif gives upright pixels

    def __init__(self, name: str, data: bytes) -> None:
        try:
            import pillow_heif
        except ImportError as error:
            raise MissingExtraError("heic", f"{name}: pillow-heif, which reads HEIC,") from error
        file = pillow_heif.open_heif(data, convert_hdr_to_8bit=False)
        nclx = _primary(file).info.get("nclx_profile") or {}
        self._primaries: int = nclx.get("color_primaries", 0)
        self._transfer: int = nclx.get("transfer_characteristics", 0)
        self.notes: tuple[str, ...] = ()
        if len(file) > 1:
            self.notes += (f"the file has {len(file)} images: the primary one was read",)
        if self._transfer in (_PQ, _HLG):
            self.notes += ("high dynamic range: what is brighter than white was darkened to be shown",)
        else:
            file = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
        self._image = _primary(file)
        self.size: Size = self._image.size
        self.bits = 16 if self._image.mode == "I;16" else 8

    def decode(self) -> tuple[np.ndarray, bytes | None]:
        """Its pixels, of shape (height, width, bands), and their ICC profile."""
        pixels = np.array(self._image)  # a copy: in older versions its memory does not outlive the image
        if self._image.size != self.size:
            raise ValueError(f"the header says {self.size} pixels, and there are {self._image.size}")
        pixels = pixels.reshape(self.size[1], self.size[0], -1)
        if self._image.premultiplied_alpha:
            # Flattened on white: the color has been multiplied by the alpha already.
            alpha = pixels[:, :, 3:]
            pixels = np.minimum(pixels[:, :, :3], alpha) + (np.iinfo(pixels.dtype).max - alpha)
        profile: bytes | None = self._image.info.get("icc_profile")
        if not profile and (self._primaries in _PRIMARIES or self._transfer in (_PQ, _HLG)):
            profile = _icc_profile(_PRIMARIES.get(self._primaries, _BT709), _curve(self._transfer))
        if pixels.dtype == np.uint16 and pixels.shape[2] > 1 and profile:
            # High dynamic range is converted here: a stretch of its range would come before the profile.
            color = from_array(np.ascontiguousarray(pixels[:, :, :3]), "rgb16", profile)
            color = color.icc_transform("srgb", embedded=True, intent="relative", depth=8)
            pixels = np.dstack([as_array(color), (pixels[:, :, 3:] >> 8).astype(np.uint8)])
            profile = None
        return pixels, profile


def _primary(file: Any) -> Any:
    image = file[file.primary_index] if len(file) else None
    if image is None or not image.info["primary"]:
        raise ValueError("it has no primary image that can be decoded")
    return image


def _curve(transfer: int) -> np.ndarray:
    # Linear light for 1,024 samples from 0 to 1; 1 is diffuse white, or the peak compressed to it.
    signal = np.linspace(0, 1, 1024)
    if transfer == _PQ:  # SMPTE ST 2084
        power = signal ** (1 / 78.84375)
        light = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
        nits = 10000 * light ** (1 / 0.1593017578125)
    elif transfer == _HLG:  # ITU-R BT.2100, for a display of 1,000 nits
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        nits = 1000 * np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12) ** 1.2
    else:
        return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    # Straight up to half of diffuse white; above it bent, so that the peak is 1.
    above = np.maximum(2 * nits / _WHITE_NITS - 1, 0)
    most = 2 * _PEAK_NITS / _WHITE_NITS - 1
    bent = above * (1 + above / most**2) / (1 + above)
    return np.minimum(1, np.where(above > 0, 0.5 + bent / 2, nits / _WHITE_NITS))


def _icc_profile(primaries: tuple[tuple[float, float, float], ...], curve: np.ndarray) -> bytes:
    # A display profile (ICC 2.4) from primaries and the curve that all three share.
    def fixed(values: tuple[float, float, float]) -> bytes:
        return struct.pack(">3i", *(round(value * 65536) for value in values))

    samples = np.round(curve * 65535).astype(">u2").tobytes()
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"nclx\0" + bytes(78 + 3)}
    points = zip((b"wtpt", b"rXYZ", b"gXYZ", b"bXYZ"), (_WHITE_POINT, *primaries), strict=True)
    tags |= {name: b"XYZ \0\0\0\0" + fixed(point) for name, point in points}
    curve_tag = b"curv\0\0\0\0" + struct.pack(">I", len(curve)) + samples
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve_tag)
    table, body = struct.pack(">I", len(tags)), b""
    begin = 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        table += name + struct.pack(">II", begin + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    kinds = b"mntr", b"RGB ", b"XYZ ", b"acsp"
    header = struct.pack(">I4xI4s4s4s12x4s28x", begin + len(body), 0x02400000, *kinds)
    return (header + fixed(_WHITE_POINT)).ljust(128, b"\0") + table + body
