"""How the street looks: sky, houses with shops, cars from behind. Lengths in units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2r.scenes.canvas import COLORS, ink_on, mix

if TYPE_CHECKING:
    from p2r.scenes.canvas import Canvas, Color
    from p2r.scenes.fonts import Font
    from p2r.scenes.world import Rect

SKIES: dict[str, tuple[Color, Color]] = {
    "blue": ((72, 138, 216), (186, 216, 240)),
    "gray": ((146, 152, 160), (204, 208, 210)),
    "orange": ((214, 104, 56), (252, 206, 132)),
    "dark": ((14, 18, 40), (44, 52, 84)),
}
# Nothing else in a street has the saturated colors of doors and cars.
WALLS: tuple[Color, ...] = (
    (166, 98, 80),
    (214, 200, 172),
    (150, 144, 138),
    (190, 172, 150),
    (132, 112, 100),
    (172, 184, 184),
    (222, 214, 204),
)
_FRONTS: tuple[Color, ...] = ((64, 60, 56), (88, 74, 60), (58, 68, 76), (198, 190, 176), (116, 106, 94))
_CLOTHS: tuple[Color, ...] = ((150, 116, 96), (110, 124, 118), (124, 120, 134), (104, 100, 96))
SIGNS = ("BAKERY", "BOOKS", "FLOWERS", "TOYS", "SHOES", "TEA ROOM", "CAFE", "MUSIC", "BIKES", "HATS", "DELI")
_GLASS, _CREAM, _STEEL = (70, 92, 108), (238, 230, 212), (52, 54, 58)


def draw_ground(canvas: Canvas, base: float, walk: float, sky: str) -> None:
    """Sky, the pavement between `base` and `base + walk`, and the road below."""
    top, low = SKIES[sky]
    canvas.gradient(0, 0, canvas.across, base, top, low)
    canvas.gradient(0, base, canvas.across, base + walk, (150, 146, 140), (188, 184, 178))
    for k in range(1, round(canvas.across / 0.08)):
        x = k * 0.08
        canvas.line(
            [(x, base), (x + (x - canvas.across / 2) * 0.06, base + walk)], 0.0012, (110, 106, 100, 160)
        )
    canvas.line([(0, base + walk / 2), (canvas.across, base + walk / 2)], 0.0012, (110, 106, 100, 160))
    canvas.rectangle(0, base + walk, canvas.across, base + walk + 0.012, (206, 202, 194))
    canvas.gradient(0, base + walk + 0.012, canvas.across, canvas.down, (66, 66, 70), (96, 96, 98))


def draw_house(
    canvas: Canvas, x0: float, x1: float, top: float, base: float, wall: int, *, lit: bool
) -> None:
    """The upper floors: a wall with windows and a cornice."""
    color, width = WALLS[wall % len(WALLS)], x1 - x0
    canvas.rectangle(x0, top, x1, base, color)
    if wall % 2 == 0:
        for k in range(1, int((base - top) / 0.011)):
            canvas.line(
                [(x0, top + k * 0.011), (x1, top + k * 0.011)], 0.0014, (*mix(color, (0, 0, 0), 0.4), 130)
            )
    floors, columns = max(0, int((base - top - 0.02) / 0.13)), 2 + wall % 2
    for floor in range(floors):
        y = base - (floor + 1) * 0.13 + 0.018
        for column in range(columns):
            x = x0 + width * (column + 0.5) / columns
            glow = lit and (floor + column + wall) % 3 == 0
            _window(canvas, x - 0.028, y, x + 0.028, y + 0.078, glow=glow)
            canvas.rectangle(x - 0.034, y + 0.078, x + 0.034, y + 0.086, mix(color, (255, 255, 255), 0.45))
    canvas.rectangle(x0, top, x1, top + 0.012, mix(color, (255, 255, 255), 0.35))
    canvas.rectangle(x0, top + 0.012, x1, top + 0.017, mix(color, (0, 0, 0), 0.45))
    canvas.gradient(x1 - 0.012, top, x1, base, (0, 0, 0, 0), (0, 0, 0, 70), down=False)


def _window(canvas: Canvas, x0: float, y0: float, x1: float, y1: float, *, glow: bool) -> None:
    canvas.rectangle(x0 - 0.004, y0 - 0.004, x1 + 0.004, y1 + 0.004, _CREAM)
    start, end = ((250, 226, 160), (220, 180, 104)) if glow else (mix(_GLASS, (255, 255, 255), 0.35), _GLASS)
    canvas.gradient(x0, y0, x1, y1, start, end)
    canvas.rectangle((x0 + x1) / 2 - 0.002, y0, (x0 + x1) / 2 + 0.002, y1, _CREAM)
    canvas.rectangle(x0, y0 + (y1 - y0) * 0.4, x1, y0 + (y1 - y0) * 0.4 + 0.003, _CREAM)


def draw_front(canvas: Canvas, rect: Rect, look: int, sign: str, font: Font, door: float) -> None:
    """The ground floor: a sign over the whole width, a shop window with an awning, and room for the door."""
    x0, top, x1, base = rect
    front, cloth = _FRONTS[look % len(_FRONTS)], _CLOTHS[look // 5 % len(_CLOTHS)]
    canvas.rectangle(x0, top, x1, base, front)
    board = top + 0.056
    canvas.rectangle(x0 + 0.004, top + 0.004, x1 - 0.004, board, mix(front, (0, 0, 0), 0.35))
    canvas.text((x0 + x1) / 2, (top + board) / 2 + 0.002, sign, font, 0.026, _CREAM, width=(x1 - x0) * 0.85)
    left, right = x0 + 0.014, door - 0.012
    sill = base - 0.03
    canvas.rectangle(
        left - 0.004, board + 0.01, right + 0.004, sill + 0.006, mix(front, (255, 255, 255), 0.4)
    )
    canvas.gradient(left, board + 0.014, right, sill, (58, 72, 82), (120, 116, 104))
    width = (right - left) / 4
    for k in range(4):  # goods behind the glass
        x, tall = left + (k + 0.5) * width, 0.02 + 0.03 * ((look >> k) % 3)
        tone = mix((150, 128, 104), (92, 108, 116), (look >> (k + 2)) % 4 / 3)
        if (look + k) % 2:
            canvas.ellipse(x - width * 0.36, sill - tall, x + width * 0.36, sill, tone)
        else:
            canvas.rectangle(x - width * 0.3, sill - tall, x + width * 0.3, sill, tone)
    slant = (sill - board) * 0.5
    for start in (0.15, 0.5):  # reflections
        x = left + (right - left - slant) * start
        shape = [(x + slant, board + 0.014), (x + slant + 0.02, board + 0.014), (x + 0.02, sill), (x, sill)]
        canvas.polygon(shape, (255, 255, 255, 34))
    stripe = (right - left + 0.016) / 8
    for k in range(8):
        x, color = left - 0.008 + k * stripe, _CREAM if k % 2 else cloth
        shape = [(x, board), (x + stripe, board), (x + stripe, board + 0.046), (x, board + 0.046)]
        canvas.polygon(shape, color)
        canvas.ellipse(x, board + 0.038, x + stripe, board + 0.054, color)
    canvas.gradient(left - 0.008, board, right + 0.008, board + 0.046, (0, 0, 0, 0), (0, 0, 0, 60))
    canvas.gradient(left, board + 0.05, right, board + 0.08, (0, 0, 0, 110), (0, 0, 0, 0))


def draw_door(canvas: Canvas, rect: Rect, color: str) -> None:
    """A door with a glass pane, two panels, a handle and a step."""
    x0, y0, x1, y1 = rect
    fill, width = COLORS[color], x1 - x0
    dark, light = mix(fill, (0, 0, 0), 0.35), mix(fill, (255, 255, 255), 0.2)
    canvas.rectangle(x0 - 0.005, y0 - 0.005, x1 + 0.005, y1, mix(_CREAM, (0, 0, 0), 0.25))
    canvas.rectangle(x0, y0, x1, y1, fill)
    inner0, inner1, middle = x0 + width * 0.24, x1 - width * 0.24, y0 + (y1 - y0) * 0.4
    canvas.gradient(inner0, y0 + width * 0.2, inner1, middle, (132, 152, 164), _GLASS)
    top, bottom = middle + width * 0.16, y1 - width * 0.2
    if bottom > top:
        thin = width * 0.03
        canvas.rectangle(inner0, top, inner1, bottom, dark)
        canvas.rectangle(inner0 + thin, top + thin, inner1, bottom, light)
        canvas.rectangle(inner0 + thin, top + thin, inner1 - thin, bottom - thin, fill)
    knob = x1 - width * 0.18, middle + width * 0.1
    canvas.ellipse(*knob, knob[0] + width * 0.1, knob[1] + width * 0.1, (214, 190, 120))
    canvas.rectangle(x0 - 0.01, y1 - 0.004, x1 + 0.01, y1 + 0.006, (176, 172, 166))


def draw_sign(canvas: Canvas, rect: Rect, text: str, font: Font, ground: Color, contrast: float) -> None:
    """A small plate with a rim and something written on it."""
    x0, y0, x1, y1 = rect
    ink, rim = mix(ground, ink_on(ground), contrast), (y1 - y0) * 0.07
    canvas.rectangle(x0, y0, x1, y1, mix(ground, ink_on(ground), 0.6), radius=rim * 2)
    canvas.rectangle(x0 + rim, y0 + rim, x1 - rim, y1 - rim, ground, radius=rim * 1.5)
    height, width = (y1 - y0) * 0.62, (x1 - x0) * 0.84
    canvas.text((x0 + x1) / 2, (y0 + y1) / 2, text, font, height, ink, width=width)


def draw_car(canvas: Canvas, rect: Rect, color: str, kind: int) -> None:
    """A parked car from behind."""
    left, top, right, base = rect
    fill, width, height = COLORS[color], right - left, base - top
    dark, light = mix(fill, (0, 0, 0), 0.3), mix(fill, (255, 255, 255), 0.3)

    def at(across: float, down: float) -> tuple[float, float]:
        return left + across * width, top + down * height

    canvas.shadow(left - width * 0.16, base - height * 0.2, right + width * 0.16, base + height * 0.2, 0.85)
    for side in (0.06, 0.74):
        (x0, y0), (x1, y1) = at(side, 0.72), at(side + 0.2, 1.0)
        canvas.rectangle(x0, y0, x1, y1, (26, 26, 28), radius=width * 0.03)
    slope = (0.17, 0.12, 0.2)[kind % 3]
    roof = [
        at(slope, 0.06),
        at(slope + 0.06, 0.0),
        at(0.94 - slope, 0.0),
        at(1 - slope, 0.06),
        at(0.96, 0.5),
        at(0.04, 0.5),
    ]
    canvas.polygon(roof, fill)
    glass = [at(slope + 0.05, 0.08), at(0.95 - slope, 0.08), at(0.86, 0.4), at(0.14, 0.4)]
    canvas.polygon(glass, (44, 54, 64))
    canvas.polygon(
        [at(slope + 0.05, 0.08), at(0.5, 0.08), at(0.34, 0.4), at(0.14, 0.4)], (104, 122, 134, 150)
    )
    canvas.line([at(0.5, 0.4), at(0.66, 0.3)], width * 0.012, (20, 20, 22))
    (x0, y0), (x1, y1) = at(0.0, 0.4), at(1.0, 0.9)
    canvas.rectangle(x0, y0, x1, y1, fill, radius=width * 0.08)
    canvas.line([at(0.05, 0.44), at(0.95, 0.44)], width * 0.014, light)
    (x0, y0), (x1, y1) = at(0.0, 0.78), at(1.0, 0.92)
    canvas.rectangle(x0, y0, x1, y1, dark, radius=width * 0.04)
    canvas.line([at(0.1, 0.765), at(0.9, 0.765)], width * 0.01, (*dark[:3], 180))
    for side in (0.03, 0.81):
        (x0, y0), (x1, y1) = at(side, 0.47), at(side + 0.16, 0.6)
        canvas.rectangle(x0, y0, x1, y1, (92, 16, 20), radius=width * 0.02)
        canvas.rectangle(
            x0 + width * 0.01, y0 + width * 0.01, x1 - width * 0.01, y1 - width * 0.04, (206, 40, 40)
        )
        canvas.rectangle(
            x0 + width * 0.01, y1 - width * 0.035, x1 - width * 0.01, y1 - width * 0.012, (236, 224, 206)
        )
    (x0, y0), (x1, y1) = at(0.47, 0.485), at(0.53, 0.53)
    canvas.ellipse(x0, y0, x1, y1, (206, 208, 212))
    (x0, y0), (x1, y1) = at(0.16, 0.92), at(0.26, 0.96)
    canvas.rectangle(x0, y0, x1, y1, (120, 122, 124))


def draw_lamp(canvas: Canvas, x: float, base: float, height: float, *, lit: bool) -> None:
    """A street lamp."""
    canvas.rectangle(x - 0.0035, base - height, x + 0.0035, base, _STEEL)
    canvas.rectangle(x - 0.008, base - 0.03, x + 0.008, base, _STEEL)
    if lit:
        canvas.ellipse(x - 0.04, base - height - 0.05, x + 0.04, base - height + 0.03, (255, 232, 160, 60))
    glass = (255, 238, 180) if lit else (226, 230, 226)
    top = base - height
    canvas.polygon(
        [(x - 0.012, top - 0.026), (x + 0.012, top - 0.026), (x + 0.007, top), (x - 0.007, top)], glass
    )
    canvas.polygon([(x - 0.015, top - 0.026), (x + 0.015, top - 0.026), (x, top - 0.04)], _STEEL)


def draw_planter(canvas: Canvas, x: float, base: float) -> None:
    """A pot with a dull green bush."""
    for dx, dy, r in (
        (-0.012, 0.044, 0.014),
        (0.012, 0.046, 0.014),
        (0.0, 0.056, 0.018),
        (0.002, 0.04, 0.015),
    ):
        green = mix((62, 84, 58), (98, 118, 84), (dx + 0.012) / 0.03)
        canvas.ellipse(x + dx - r, base - dy - r, x + dx + r, base - dy + r, green)
    canvas.polygon(
        [(x - 0.016, base - 0.034), (x + 0.016, base - 0.034), (x + 0.012, base), (x - 0.012, base)],
        (118, 92, 78),
    )
