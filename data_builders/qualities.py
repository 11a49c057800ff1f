"""The qualities of the records: their names, and which of them can be made from which file."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_builders.draws import drawn
from data_builders.errors import UserError

#: A CRF that is drawn for each video from the seed: no detector was trained on exactly that one.
RANDOM = "random"
_RANDOM_CRF = (18, 45)
#: The video after one messenger has shrunk and compressed it, and another has compressed it again.
MESSENGER = "messenger"
LARGEST_CRF = 51
_LONGEST = 100  # characters of a name


def check_qualities(qualities: Sequence[str]) -> tuple[str, ...]:
    """Returns the qualities as a tuple.

    Raises:
      UserError: One is not 'raw', 'cNN' with a CRF from 1 to 51, 'random' or 'messenger'; or one is
        repeated; or there is none.
    """
    for quality in qualities:
        crf = crf_of(quality)
        if quality not in (RANDOM, MESSENGER) and (crf is None or crf > LARGEST_CRF):
            raise UserError(
                f"--qualities: {quality!r} is not a quality; raw, random, messenger, or c and a "
                "CRF from 1 to 51, such as c23"
            )
    if len(set(qualities)) < len(qualities) or not qualities:
        raise UserError(f"--qualities: {', '.join(qualities)} must be different, at least one")
    return tuple(qualities)


def is_name(quality: Any) -> bool:
    """Whether a list or a file of a stranger may call a quality so; it is shown, and stored."""
    return isinstance(quality, str) and 0 < len(quality) <= _LONGEST and quality.isprintable()


def check_names(path: Path, qualities: Iterable[str]) -> None:
    """Looks at what a list calls its qualities.

    Raises:
      UserError: It is no name, see `is_name`. The message names the list.
    """
    for quality in qualities:
        if not is_name(quality):
            raise UserError(
                f"{path}: {reprlib.repr(quality)} is no name of a quality, which has 1 to "
                f"{_LONGEST} printable characters"
            )


def crf_of(quality: str) -> int | None:
    """The CRF of a quality: 0 for 'raw', None for one whose name does not say it."""
    number = re.fullmatch(r"c([1-9]\d?)", quality)
    return 0 if quality == "raw" else int(number[1]) if number else None


def can_be_made(quality: str, best: str) -> bool:
    """Whether a quality can be made from a file: compression gives nothing back.

    Args:
      quality: The quality that is wanted.
      best: Quality of the best file there is.
    """
    if quality == MESSENGER:  # whatever is sent arrives worse
        return True
    held, wanted = crf_of(best) or 0, crf_of(quality)
    return held <= _RANDOM_CRF[1] if wanted is None else held <= wanted


def drawn_crf(key: str, best: str) -> int:
    """The CRF of quality 'random', evenly from 18 to 45, and no better than the file it is made of.

    Args:
      key: Seed and name of the video.
      best: Quality of the best file there is.
    """
    low, high = max(_RANDOM_CRF[0], crf_of(best) or 0), _RANDOM_CRF[1]
    return low + drawn(key, high - low + 1)


def instead(qualities: Sequence[str], bests: Sequence[str], spared: int) -> tuple[str, ...]:
    """Chooses qualities that can be made, in place of some that cannot.

    Args:
      qualities: The qualities that are wanted.
      bests: For each video the quality of its best file.
      spared: Number of videos of which they need not be made.

    Returns:
      The best quality that the videos have in common, and those of `qualities` that can be made
      from it.
    """
    ordered = sorted(bests, key=lambda best: crf_of(best) or 0)
    common = ordered[max(0, len(ordered) - 1 - spared)]
    kept = [quality for quality in qualities if can_be_made(quality, common)]
    return tuple(dict.fromkeys([common, *kept]))
