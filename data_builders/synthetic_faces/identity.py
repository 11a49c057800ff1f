"""A person: geometry, skin, hair, eyes, the room they sit in and its light.

Colours are linear RGB (not gamma-encoded) in [0, 1]. Lengths are in head units: half the head's
height. x points right, y down, z towards the viewer. The head's centre is the origin, so its crown
is at y = -1, its chin at y = 1 and its eyes are near y = 0.
"""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import numpy as np

Colour: TypeAlias = tuple[float, float, float]

# Palettes as sRGB bytes. A person's colour is a mixture of two neighbours, with jitter.
_SKIN_PALE, _SKIN_DARK = (240, 205, 184), (98, 64, 48)
_HAIR = ((22, 18, 17), (44, 30, 24), (78, 52, 36), (120, 62, 36), (176, 132, 80), (150, 146, 142))
_IRIS = ((58, 34, 20), (96, 60, 32), (120, 98, 52), (84, 112, 78), (86, 120, 158), (120, 134, 146))


def linear(srgb: tuple[float, float, float]) -> Colour:
    """Converts sRGB bytes to linear RGB, by the power 2.2 that `camera` undoes."""
    red, green, blue = ((channel / 255) ** 2.2 for channel in srgb)
    return red, green, blue


@dataclasses.dataclass(frozen=True)
class Hair:
    """Shape and colour of the hair; an `amount` of 0 is a bald head.

    Attributes:
      colour: Albedo of a strand.
      amount: How far it stands off the skull.
      front: y of the hairline over the forehead.
      parting: x where the hairline is highest.
      drop: How far down the hair goes at the sides, from the front's y.
      back: y at which the hair behind the neck ends; above 0.4 for long hair.
      ragged: How uneven the hairline is.
      curl: Wavelength of the strands' wave, 0 for straight hair.
    """

    colour: Colour
    amount: float
    front: float
    parting: float
    drop: float
    back: float
    ragged: float
    curl: float


@dataclasses.dataclass(frozen=True)
class Light:
    """A key light, and the ambient light that comes from everywhere.

    Attributes:
      direction: Unit vector towards the key light.
      key: Its colour, strength included.
      ambient: Colour of the ambient light, strength included.
    """

    direction: tuple[float, float, float]
    key: Colour
    ambient: Colour


@dataclasses.dataclass(frozen=True)
class Person:
    """The properties of one person that are the same in every frame.

    Attributes:
      width: Half width of the head.
      depth: Half depth of the head.
      jaw: How much narrower than an ellipsoid the head is at the chin, 0 to 0.3.
      skin: Albedo of the skin.
      ruddiness: Redness of cheeks and nose, 0 to 1.
      roughness: Contrast of pores and blotches.
      freckles: Density of freckles, 0 (most people) to 1.
      age: Depth of the wrinkles, 0 to 1.
      shine: Strength of the skin's highlight.
      beard: Density of stubble or beard, 0 (most people) to 1.
      eye_x: Distance of each eye from the middle.
      eye_y: Height of the eyes.
      eye_width: Half width of an eye.
      eye_open: Half height of an open eye, as a part of its half width.
      eye_tilt: Slant of the eyes.
      iris: Colour of the iris.
      brow_y: Height of the brows over the eyes.
      brow_thickness: Half thickness of a brow.
      brow_arch: Curvature of a brow.
      brow_tilt: Slant of the brows.
      brow_density: Opacity of the brows.
      nose_y: Height of the tip of the nose.
      nose_width: Half width at the nostrils.
      nose_length: How far the nose stands out.
      mouth_y: Height of the mouth.
      mouth_width: Half width of the mouth.
      lip_upper: Thickness of the upper lip.
      lip_lower: Thickness of the lower lip.
      lips: Albedo of the lips.
      hair: Its shape and colour.
      clothes: Albedo of the clothes.
      collar: Albedo of the collar.
      shoulders: Half width of the shoulders.
      light: The light of the room.
      wall: Two albedos; the wall behind changes from one to the other.
      texture_seed: Seed of skin, hair, cloth and background textures.
    """

    width: float
    depth: float
    jaw: float
    skin: Colour
    ruddiness: float
    roughness: float
    freckles: float
    age: float
    shine: float
    beard: float
    eye_x: float
    eye_y: float
    eye_width: float
    eye_open: float
    eye_tilt: float
    iris: Colour
    brow_y: float
    brow_thickness: float
    brow_arch: float
    brow_tilt: float
    brow_density: float
    nose_y: float
    nose_width: float
    nose_length: float
    mouth_y: float
    mouth_width: float
    lip_upper: float
    lip_lower: float
    lips: Colour
    hair: Hair
    clothes: Colour
    collar: Colour
    shoulders: float
    light: Light
    wall: tuple[Colour, Colour]
    texture_seed: int


def sample_person(rng: np.random.Generator) -> Person:
    """Draws a person.

    Args:
      rng: Source of every random property.

    Returns:
      The person; the same generator state gives the same person.
    """

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def chance(probability: float) -> bool:
        return bool(rng.random() < probability)

    # Pale and dark are mixed in log space, in which equal steps look equal.
    melanin = between(0.0, 1.0) ** 1.5
    pale, dark = np.array(linear(_SKIN_PALE)), np.array(linear(_SKIN_DARK))
    skin = pale ** (1 - melanin) * dark**melanin * rng.uniform(0.95, 1.05, 3)
    age = between(0.0, 1.0) ** 1.5
    male = chance(0.5)
    lips = skin * (1.0, 0.62, 0.66) * between(0.8, 1.05)
    if not male and chance(0.4):  # lipstick
        lips = np.array(linear((between(140, 190), between(40, 80), between(50, 90)))) * 0.9
    return Person(
        width=between(0.7, 0.8),
        depth=between(0.8, 0.92),
        jaw=between(0.04, 0.14) if male else between(0.1, 0.2),
        skin=_colour(skin),
        ruddiness=between(0.3, 1.0),
        roughness=between(0.6, 1.3),
        freckles=between(0.4, 1.0) if chance(0.3) else 0.0,
        age=age,
        shine=between(0.04, 0.14),
        beard=between(0.15, 1.0) if male and chance(0.55) else 0.0,
        eye_x=between(0.3, 0.36),
        eye_y=between(-0.06, 0.04),
        eye_width=between(0.135, 0.175),
        eye_open=between(0.42, 0.62),
        eye_tilt=between(-0.12, 0.12),
        iris=_mixture(rng, _IRIS, min(1.0, between(0.0, 1.6) * (1.1 - melanin))),
        brow_y=between(0.2, 0.27),
        brow_thickness=between(0.035, 0.06) if male else between(0.02, 0.04),
        brow_arch=between(0.3, 1.3),
        brow_tilt=between(-0.1, 0.12),
        brow_density=between(0.6, 0.95),
        nose_y=between(0.36, 0.45),
        nose_width=between(0.11, 0.19),
        nose_length=between(0.14, 0.24),
        mouth_y=between(0.6, 0.68),
        mouth_width=between(0.22, 0.3),
        lip_upper=between(0.035, 0.065),
        lip_lower=between(0.05, 0.09),
        lips=_colour(lips),
        hair=_sample_hair(rng, male=male, age=age, melanin=melanin),
        clothes=_colour(rng.uniform(0.02, 0.5) * rng.uniform(0.4, 1.0, 3)),
        collar=_colour(rng.uniform(0.1, 0.7) * rng.uniform(0.8, 1.0, 3)),
        shoulders=between(1.55, 1.9) if male else between(1.35, 1.65),
        light=_sample_light(rng),
        wall=(
            _colour(rng.uniform(0.12, 0.6) * rng.uniform(0.55, 1.0, 3)),
            _colour(rng.uniform(0.08, 0.5) * rng.uniform(0.55, 1.0, 3)),
        ),
        texture_seed=int(rng.integers(2**31)),
    )


def _sample_hair(rng: np.random.Generator, *, male: bool, age: float, melanin: float) -> Hair:
    tone = 1.0 if rng.random() < age - 0.5 else float(rng.uniform(0.0, 0.85 * (1 - 0.7 * melanin)))
    long = rng.random() < (0.08 if male else 0.75)
    fringe = rng.random() < 0.3
    bald = male and rng.random() < 0.15
    return Hair(
        colour=_mixture(rng, _HAIR, tone),
        amount=0.0 if bald else float(rng.uniform(0.05, 0.16) + 0.03 * long),
        front=float(rng.uniform(-0.48, -0.4) if fringe else rng.uniform(-0.72, -0.56)),
        parting=float(rng.uniform(-0.3, 0.3)),
        drop=float(rng.uniform(1.3, 2.2) if long else rng.uniform(0.45, 0.75)),
        back=float(rng.uniform(0.9, 1.7) if long else 0.3),
        ragged=float(rng.uniform(0.02, 0.1)),
        curl=float(rng.uniform(0.12, 0.3)) if rng.random() < 0.4 else 0.0,
    )


def _sample_light(rng: np.random.Generator) -> Light:
    azimuth, elevation = rng.uniform(-1.1, 1.1), rng.uniform(0.15, 0.9)
    warmth = rng.uniform(-0.12, 0.12)
    strength, ambient = rng.uniform(0.8, 1.25), rng.uniform(0.35, 0.65)
    return Light(
        direction=(
            float(np.sin(azimuth) * np.cos(elevation)),
            float(-np.sin(elevation)),
            float(np.cos(azimuth) * np.cos(elevation)),
        ),
        key=_colour(strength * np.array((1 + warmth, 1.0, 1 - warmth))),
        # Ambient light is bluish where the key light is warm, and the other way round.
        ambient=_colour(ambient * np.array((1 - warmth / 2, 1.0, 1 + warmth / 2))),
    )


def _mixture(
    rng: np.random.Generator, palette: tuple[tuple[int, int, int], ...], where: float
) -> Colour:
    position = where * (len(palette) - 1)
    low = min(int(position), len(palette) - 2)
    part = position - low
    first, second = np.array(linear(palette[low])), np.array(linear(palette[low + 1]))
    return _colour(((1 - part) * first + part * second) * rng.uniform(0.85, 1.15, 3))


def _colour(values: np.ndarray) -> Colour:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
