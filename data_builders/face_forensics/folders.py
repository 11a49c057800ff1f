"""Where the download script of FaceForensics++ puts the qualities of a method."""

from __future__ import annotations

from pathlib import Path

from data_builders.lists import entries, videos_in
from data_builders.qualities import LARGEST_CRF, crf_of


def qualities(root: Path, name: str, *, real: bool) -> list[tuple[str, Path]]:
    """Lists the folders of the qualities of real or manipulated sequences, best first.

    Args:
      root: The folder that was downloaded.
      name: A method, or `youtube` or `actors` for real sequences.
      real: Whether the sequences are real.

    Returns:
      Each quality and its folder of videos; a later folder of one quality counts, where it is.

    Raises:
      UserError: The folder of the sequences cannot be read.
    """
    parent = root / ("original_sequences" if real else "manipulated_sequences") / name
    there = [path.name for path in entries(parent)]
    compressed = [name for name in there if 0 < (crf_of(name) or 0) <= LARGEST_CRF]
    # The download script calls it raw, the compression script c0.
    names = [("raw", "c0"), ("raw", "raw")]
    names += [(name, name) for name in sorted(compressed, key=lambda name: int(name[1:]))]
    return [(quality, parent / name / "videos") for quality, name in names]


def there(folder: Path) -> dict[str, Path]:
    """Finds the videos in a folder by their names. A link to a file that was not fetched is none.

    Raises:
      UserError: It cannot be read.
    """
    return {name: path for name, path in videos_in(folder).items() if path.is_file()}
