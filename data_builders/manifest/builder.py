"""`manifest`: the crops that a JSON file lists, as a TFDS dataset."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, UnidentifiedImageError

from data_builders.errors import UserError
from data_builders.manifest import reader
from data_builders.paired import PairedConfig, PairedDatasetBuilder
from data_builders.png import encode_png
from data_builders.records import Clip

# Pillow reads others, too: for one of them it starts a program that runs what is in the file.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_MOST_SCANS = 100


class Manifest(PairedDatasetBuilder):
    """Builds the crops that a manifest lists. Each content is a configuration of its own."""

    VERSION = tfds.core.Version("1.0.0")
    NEEDS: ClassVar[tuple[str, ...]] = ("manifest",)

    def __init__(self, *, manifest: str | Path, config: str | None = None, **kwargs: Any) -> None:
        """Reads the manifest.

        Args:
          manifest: The JSON file.
          config: Unused: the content is the configuration.
          **kwargs: See `tfds.core.DatasetBuilder`.

        Raises:
          UserError: The manifest has a mistake.
        """
        del config
        self._listing = self._read(Path(manifest))
        listing_config = PairedConfig(
            name=f"{Path(manifest).stem}-{self._listing.digest()}",
            description=f"The crops listed in {Path(manifest).name}.",
            qualities=self._listing.qualities,
        )
        super().__init__(config=listing_config, **kwargs)

    def _read(self, path: Path) -> reader.Listing:
        return reader.read(path)

    def clip_sources(self) -> Mapping[str, Sequence[reader.Tuple]]:
        """Names one clip, of one frame, for each listed tuple."""
        return self._listing.splits

    @staticmethod
    def read_clip(source: reader.Tuple) -> Clip:
        """Reads the images of a tuple.

        Raises:
          UserError: An image cannot be decoded. The message names its file.
        """
        images = {quality: _lossless(path) for quality, path in source.paths.items()}
        width, height = next(iter(images.values()))[1]
        return Clip(
            method=source.method,
            video=source.video,
            identity=source.identity,
            label=source.label,
            frames=[source.frame],
            boxes=np.asarray([[0, 0, width, height]], np.float32),
            crops={quality: [data] for quality, (data, _) in images.items()},
        )


def _lossless(path: Path) -> tuple[bytes, tuple[int, int]]:
    """Reads an image as the bytes of a PNG file, and its size; decodes it once, as a check."""
    try:
        data = path.read_bytes()
        # A progressive JPEG is decoded once for each of its scans, of which it needs some ten.
        if (scans := data.count(b"\xff\xda")) > _MOST_SCANS and data.startswith(b"\xff\xd8"):
            raise ValueError(f"{scans} scans: {_MOST_SCANS} are read")
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.mode.startswith("I") or image.mode == "F":
                raise ValueError(f"mode {image.mode}: only 8 bits a channel are read")
            image.load()  # a truncated file fails here and not in the middle of training
            if image.format == "PNG" and image.mode == "RGB":
                return data, image.size
            return encode_png(np.asarray(image.convert("RGB"))), image.size
    except UnidentifiedImageError as error:
        raise UserError(
            f"{path}: not a readable image; replace it, or take it out of the list"
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path}: not a readable image ({error}); replace it, or take it out of the list"
        ) from error
