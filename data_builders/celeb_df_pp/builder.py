"""`celeb_df_pp`: Celeb-DF++, whose fakes are in a folder for each of 22 methods."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import ClassVar

from data_builders.access import Access
from data_builders.celeb_df_v2.builder import FAKE, TREE, CelebDfV2
from data_builders.lists import as_text, entries


class CelebDfPp(CelebDfV2):
    """Celeb-DF++: the real videos of v2, and fakes of three scenarios."""

    TREE: ClassVar[str] = TREE.format("{FaceSwap,FaceReenact,TalkingFace}/METHOD/")
    ACCESS: ClassVar[Access] = Access(
        page="https://github.com/OUC-VAS/Celeb-DF-PP",
        form="a form of Tencent, https://wj.qq.com/s2/23258268/2516/, with the terms of use; a "
        "link is sent to those who are accepted; questions to liyuezun@ouc.edu.cn",
        size="how many bytes is not published",
    )

    @classmethod
    def fakes(cls, root: Path) -> dict[str, str]:
        """Names the method of each folder of fakes; there may be some of them, and new ones.

        A name that is in two scenarios is that of two methods, such as `FaceSwap_NAME`.
        """
        methods = (path for scenario in entries(root / FAKE) for path in entries(scenario))
        folders = [path for path in methods if path.is_dir()]
        times = collections.Counter(path.name for path in folders)
        return {
            f"{FAKE}/{path.parent.name}/{path.name}": as_text(
                path.name if times[path.name] == 1 else f"{path.parent.name}_{path.name}"
            )
            for path in folders
        }
