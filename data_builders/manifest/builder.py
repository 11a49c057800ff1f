"""Crops listed in a data.json, as a TFDS dataset."""

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


class Manifest(PairedDatasetBuilder):
    """Builds the crops that a manifest lists. Each content gets a configuration of its own."""

    VERSION = tfds.core.Version("1.0.0")
    NEEDS: ClassVar[tuple[str, ...]] = ("manifest",)

    def __init__(self, *, manifest: str | Path, config: str | None = None, **kwargs: Any) -> None:
        del config  # the content is the configuration
        path = Path(manifest)
        self._listing = reader.read(path)
        made = PairedConfig(
            name=f"{path.stem}-{self._listing.digest()}",
            description=f"The crops listed in {path.name}.",
            qualities=self._listing.qualities,
        )
        super().__init__(config=made, **kwargs)

    def clip_sources(self) -> Mapping[str, Sequence[reader.Tuple]]:
        """One clip of one frame for each listed tuple."""
        return self._listing.splits

    @staticmethod
    def read_clip(source: reader.Tuple) -> Clip:
        """Reads a tuple's pictures.

        Raises:
          UserError: Naming the file, if a picture cannot be decoded.
        """
        pictures = {quality: _lossless(path) for quality, path in source.paths.items()}
        width, height = next(iter(pictures.values()))[1]
        return Clip(
            method=source.method,
            video=source.video,
            identity=source.identity,
            label=source.label,
            frames=[source.frame],
            boxes=np.asarray([[0, 0, width, height]], np.float32),
            crops={quality: [data] for quality, (data, _) in pictures.items()},
        )


def _lossless(path: Path) -> tuple[bytes, tuple[int, int]]:
    """The picture as the bytes of a PNG, decoded in full to be sure of it, and its size."""
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            if picture.mode.startswith("I") or picture.mode == "F":
                raise ValueError(f"mode {picture.mode}: only 8 bits a channel are read")
            picture.load()  # a truncated file is found here and not in the middle of training
            if picture.format == "PNG" and picture.mode == "RGB":
                return data, picture.size
            return encode_png(np.asarray(picture.convert("RGB"))), picture.size
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: not a readable picture; replace it or unlist it") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path}: not a readable picture ({error}); replace it or unlist it"
        ) from error
