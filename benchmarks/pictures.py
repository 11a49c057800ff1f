"""The picture that a benchmark leaves."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from data_builders.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write(figure: Figure, path: Path, dpi: int) -> None:
    """Writes a figure as a PNG, whole or not at all.

    Args:
      figure: The figure.
      path: The file.
      dpi: Pixels of an inch of the figure.
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    write_whole(path, content.getvalue())
