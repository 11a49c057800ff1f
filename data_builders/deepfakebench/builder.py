"""`deepfakebench`: the crops that DeepfakeBench prepared, as a TFDS dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from data_builders.deepfakebench import reader
from data_builders.manifest.builder import Manifest
from data_builders.paired import PairedConfig, PairedDatasetBuilder


class Deepfakebench(Manifest):
    """Builds the crops that one of DeepfakeBench's JSON files lists."""

    NEEDS: ClassVar[tuple[str, ...]] = ("manifest", "manual_dir")

    def __init__(
        self,
        *,
        manifest: str | Path,
        manual_dir: str | Path,
        config: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Reads the listing.

        Args:
          manifest: DeepfakeBench's JSON file.
          manual_dir: The folder to which the paths in it are relative.
          config: Unused: the content is the configuration.
          **kwargs: See `tfds.core.DatasetBuilder`.
        """
        path = Path(manifest)
        self._listing = reader.read(path, manual_dir)
        made = PairedConfig(
            name=f"{path.stem}-{self._listing.digest()}",
            description=f"The crops listed in {path.name}.",
            qualities=self._listing.qualities,
        )
        # Not Manifest's own constructor: that reads another format.
        PairedDatasetBuilder.__init__(self, config=made, **kwargs)
