"""`manifest`: the crops that a JSON file lists, as a TFDS dataset."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from data_builders.errors import UserError
from data_builders.images import read_image
from data_builders.manifest import reader
from data_builders.manifest.listing import Listing, Tuple
from data_builders.paired import PairedConfig, PairedDatasetBuilder
from data_builders.records import Clip


class Manifest(PairedDatasetBuilder):
    """Builds the crops that a manifest lists. Each content is a configuration of its own."""

    VERSION: ClassVar[tfds.core.Version] = tfds.core.Version("1.0.0")
    NEEDS: ClassVar[tuple[str, ...]] = ("manifest",)
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"max_skipped"})
    UNIT: ClassVar[str] = "tuples"

    def __init__(
        self,
        *,
        manifest: str | Path,
        config: str | PairedConfig | None = None,
        max_skipped: float = 0.1,
        **kwargs: Any,
    ) -> None:
        """Reads the manifest.

        Args:
          manifest: The JSON file.
          config: That of a dataset that is built, to open it without the JSON file. Otherwise the
            content is the configuration.
          max_skipped: Share of the tuples that may be unusable. If more are, the build fails.
          **kwargs: See `tfds.core.DatasetBuilder`.

        Raises:
          UserError: The manifest has a mistake.
        """
        self._listing: Listing | None = None
        if isinstance(config, PairedConfig):
            super().__init__(config=config, max_skipped=max_skipped, **kwargs)
            return
        if not str(manifest):
            raise UserError(f"--manifest: name the list of {self.name}, a JSON file")
        self._listing = self._read(Path(manifest))
        # A part of the name of a folder, of which no library expects brackets or spaces.
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", Path(manifest).stem)[:100]
        listing_config = PairedConfig(
            name=f"{stem}-{self._listing.digest()}",
            description=f"The crops listed in {Path(manifest).name}.",
            qualities=self._listing.qualities,
        )
        super().__init__(config=listing_config, max_skipped=max_skipped, **kwargs)

    def _read(self, path: Path) -> Listing:
        return reader.read(path)

    def _info(self) -> tfds.core.DatasetInfo:
        # Features are stored without an order; nothing else says which quality is the best.
        return self._paired_info(qualities=list(self.qualities))

    def clip_sources(self) -> Mapping[str, Sequence[Tuple]]:
        """Names one clip, of one frame, for each listed tuple."""
        if self._listing is None:
            raise UserError(f"--manifest: name the list of which {self.info.full_name} is made")
        self.info.metadata["notes"] = list(self._listing.notes)
        return self._listing.splits

    @staticmethod
    def read_clip(source: Tuple) -> Clip:
        """Reads the images of a tuple.

        Raises:
          UserError: An image cannot be decoded. The message names its file.
        """
        # PNG files are encoded anew, too: what else is in them, decoders read differently.
        images = {quality: read_image(path) for quality, path in source.paths.items()}
        height, width = next(iter(images.values())).shape[:2]
        return Clip(
            method=source.method,
            video=source.video,
            identity=source.identity,
            label=source.label,
            frames=[source.frame],
            boxes=np.asarray([[0, 0, width, height]], np.float32),
            crops={quality: [image] for quality, image in images.items()},
        )
