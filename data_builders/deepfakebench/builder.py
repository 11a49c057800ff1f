"""`deepfakebench`: the crops that DeepfakeBench has prepared, as a TFDS dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from data_builders.deepfakebench import reader
from data_builders.manifest.builder import Manifest
from data_builders.manifest.listing import Listing
from data_builders.paired import PairedConfig


class Deepfakebench(Manifest):
    """Builds the crops that one of DeepfakeBench's JSON files lists."""

    NEEDS: ClassVar[tuple[str, ...]] = ("manifest", "manual_dir")

    def __init__(
        self,
        *,
        manifest: str | Path,
        manual_dir: str | Path,
        config: str | PairedConfig | None = None,
        **kwargs: Any,
    ) -> None:
        """Reads the listing.

        Args:
          manifest: The JSON file of DeepfakeBench.
          manual_dir: The folder to which the paths in it are relative.
          config: See `Manifest`.
          **kwargs: See `Manifest`.

        Raises:
          UserError: The file has another format, or lists nothing that is in the folder.
        """
        self._root = manual_dir
        super().__init__(manifest=manifest, config=config, **kwargs)

    def _read(self, path: Path) -> Listing:
        return reader.read(path, self._root)
