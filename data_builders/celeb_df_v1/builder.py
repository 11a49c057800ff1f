"""`celeb_df_v1`: Celeb-DF (v1), in the folders of its archive."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import ClassVar

from data_builders import splits
from data_builders.access import Access
from data_builders.celeb_df_v2.builder import CelebDfV2


class CelebDfV1(CelebDfV2):
    """Celeb-DF (v1): the folders of v2 with fewer people, and a test list of its own."""

    ACCESS: ClassVar[Access] = Access(
        page="https://github.com/yuezunli/celeb-deepfakeforensics/tree/master/Celeb-DF-v1",
        form="a Google form that the page links to; the authors send a link to those whom they "
        "accept; questions to deepfakeforensics@gmail.com",
        size="1203 videos; how many bytes is not published",
        reported=CelebDfV2.ACCESS.reported,
    )

    @classmethod
    def held_out(cls, people: Collection[str], fakes: Iterable[Collection[str]]) -> set[str]:
        """Chooses the people of validation along the fakes: v2's draw is of v2's people."""
        return splits.held_out(people, fakes)
