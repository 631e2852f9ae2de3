"""Drawings of coloured shapes with captions, and short clips: generated data to try out captioning.

Some pairs of a colour and a shape are the split `unseen`: never trained on, though each colour and each shape is.
"""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from gptexp.data.corpora.corpus import Corpus, Example
from gptexp.tasks.vision.settings import ScenesConfig

SIDE = 32  # pixels of a drawing
SUPERSAMPLING = 4  # times as many pixels while it is drawn
FRAMES = 4  # of a clip
COLOURS = {
    "red": (220, 40, 40),
    "green": (50, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (240, 220, 50),
    "purple": (150, 60, 190),
    "orange": (245, 140, 30),
    "cyan": (60, 210, 220),
    "pink": (250, 150, 190),
    "brown": (130, 80, 40),
    "white": (245, 245, 245),
}
SHAPES = (
    "circle",
    "square",
    "triangle",
    "diamond",
    "cross",
    "star",
    "ring",
    "bar",
    "heart",
    "moon",
)
SIZES = {"small": 4.0, "large": 7.0}  # radius in pixels
COLUMNS = {"left": 8.0, "middle": 16.0, "right": 24.0}
ROWS = {"top": 8.0, "middle": 16.0, "bottom": 24.0}
NUMBERS = {2: "two", 3: "three", 4: "four"}
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
MOTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "in place": (0, 0)}
STEP = 4.0  # pixels that an object moves from frame to frame


@dataclass(frozen=True)
class Object:
    colour: str
    shape: str
    radius: float
    x: float
    y: float

    @property
    def is_unseen(self) -> bool:
        """Whether colour and shape are one of the ten pairs that are never trained on, one for each shape."""
        return (list(COLOURS).index(self.colour) + SHAPES.index(self.shape)) % len(SHAPES) == 0


class Scenes(Corpus):
    medium = "image"
    supported_fields = (("caption",),)

    def __init__(self, config: ScenesConfig, fields: tuple[str, ...], cache: Path) -> None:
        self.config = config

    def describe(self) -> dict[str, Any]:
        return {
            "source": "drawings",
            "licence": "none needed",
            "level": self.config.level,
            "examples": self.config.examples,
        }

    def __iter__(self) -> Iterator[Example]:
        rng = random.Random(f"scenes {self.config.level}")
        for _ in range(self.config.examples):
            caption, frames = LEVELS[self.config.level](rng)
            is_unseen = any(item.is_unseen for item in frames[0])
            shade = rng.randrange(50)
            yield Example(
                {"caption": caption},
                "unseen" if is_unseen else None,
                media=partial(_render, frames, shade),
            )


Scene = tuple[str, list[list[Object]]]  # caption, and the objects of each frame


def _one(rng: random.Random) -> Scene:
    column, row, size = rng.choice(list(COLUMNS)), rng.choice(list(ROWS)), rng.choice(list(SIZES))
    item = _draw_object(rng, SIZES[size], COLUMNS[column], ROWS[row])
    position = {("middle", "middle"): "in the middle"}.get((row, column), f"at the {row} {column}")
    return f"a {size} {item.colour} {item.shape} {position}", [[item]]


def _two(rng: random.Random) -> Scene:
    relation, (right, down) = rng.choice(list(RELATIONS.items()))
    first = _draw_object(rng, 5.0, 16 + 8 * right, 16 + 8 * down)
    second = _draw_object(rng, 5.0, 16 - 8 * right, 16 - 8 * down)
    return f"a {first.colour} {first.shape} {relation} a {second.colour} {second.shape}", [
        [first, second]
    ]


def _several(rng: random.Random) -> Scene:
    number = rng.choice(list(NUMBERS))
    positions = rng.sample([(x, y) for x in COLUMNS.values() for y in ROWS.values()], number)
    first = _draw_object(rng, 3.5, 0, 0)
    items = [
        replace(first, x=x + rng.uniform(-1, 1), y=y + rng.uniform(-1, 1)) for x, y in positions
    ]
    return f"{NUMBERS[number]} {first.colour} {first.shape}s", [items]


def _moving(rng: random.Random) -> Scene:
    motion, (right, down) = rng.choice(list(MOTIONS.items()))
    size = rng.choice(list(SIZES))
    middle = (FRAMES - 1) / 2
    first = _draw_object(
        rng,
        SIZES[size],
        16 - STEP * middle * right + rng.uniform(-3, 3) * (not right),
        16 - STEP * middle * down + rng.uniform(-3, 3) * (not down),
    )
    frames = [
        [replace(first, x=first.x + STEP * i * right, y=first.y + STEP * i * down)]
        for i in range(FRAMES)
    ]
    verb = "stays" if motion == "in place" else "moves"
    return f"a {size} {first.colour} {first.shape} {verb} {motion}", frames


def _mixed(rng: random.Random) -> Scene:
    return rng.choice((_one, _two, _several))(rng)


LEVELS: dict[str, Callable[[random.Random], Scene]] = {
    "one": _one,
    "mixed": _mixed,
    "video": _moving,
}


def _draw_object(rng: random.Random, radius: float, x: float, y: float) -> Object:
    return Object(
        rng.choice(list(COLOURS)),
        rng.choice(SHAPES),
        radius * rng.uniform(0.85, 1.15),
        x + rng.uniform(-1.5, 1.5),
        y + rng.uniform(-1.5, 1.5),
    )


def _render(frames: list[list[Object]], shade: int) -> np.ndarray:
    """Draw the frames [F, 32, 32, 3] on a background of this shade of grey."""
    images = []
    for items in frames:
        image = Image.new(
            "RGB", (SIDE * SUPERSAMPLING, SIDE * SUPERSAMPLING), (shade, shade, shade)
        )
        draw = ImageDraw.Draw(image)
        for item in items:
            x, y, radius = (SUPERSAMPLING * value for value in (item.x, item.y, item.radius))
            background = (shade, shade, shade)
            _draw_shape(draw, item.shape, COLOURS[item.colour], background, x, y, radius)
        images.append(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)))
    return np.stack(images)


Colour = tuple[int, int, int]


def _draw_shape(
    draw: ImageDraw.ImageDraw,
    shape: str,
    colour: Colour,
    background: Colour,
    x: float,
    y: float,
    r: float,
) -> None:
    def polygon(*points: tuple[float, float]) -> None:
        draw.polygon([(x + r * a, y + r * b) for a, b in points], fill=colour)

    def disc(size: float, fill: Colour, right: float = 0.0, down: float = 0.0) -> None:
        middle, down = x + r * right, y + r * down
        draw.ellipse(
            (middle - r * size, down - r * size, middle + r * size, down + r * size), fill=fill
        )

    match shape:
        case "circle":
            disc(1.0, colour)
        case "square":
            polygon((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9))
        case "triangle":
            polygon((0, -1), (1, 0.9), (-1, 0.9))
        case "diamond":
            polygon((0, -1.15), (0.8, 0), (0, 1.15), (-0.8, 0))
        case "cross":
            polygon((-0.33, -1), (0.33, -1), (0.33, 1), (-0.33, 1))
            polygon((-1, -0.33), (1, -0.33), (1, 0.33), (-1, 0.33))
        case "star":
            tips = [(1.15 if i % 2 == 0 else 0.45, math.pi * (i / 5 - 0.5)) for i in range(10)]
            polygon(*((size * math.cos(angle), size * math.sin(angle)) for size, angle in tips))
        case "ring":
            disc(1.0, colour)
            disc(0.55, background)
        case "bar":
            polygon((-1.2, -0.4), (1.2, -0.4), (1.2, 0.4), (-1.2, 0.4))
        case "heart":
            disc(0.5, colour, -0.45, -0.4)
            disc(0.5, colour, 0.45, -0.4)
            polygon((-0.92, -0.2), (0.92, -0.2), (0, 1.05))
        case "moon":
            disc(1.0, colour)
            disc(0.85, background, 0.5, -0.1)
