"""`df40`: the crops of DF40, by its lists, which are those of DeepfakeBench."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from data_builders.access import Access
from data_builders.deepfakebench import reader
from data_builders.deepfakebench.builder import Deepfakebench
from data_builders.manifest.listing import Listing

UNDER = "deepfakes_detection_datasets/"

_METHOD = re.compile(rf"{UNDER}DF40(?:_train)?/([^/]+)/")


class Df40(Deepfakebench):
    """Builds the crops that one of DF40's lists names: one method in one domain, or many."""

    ACCESS: ClassVar[Access] = Access(
        page="https://github.com/YZY-stack/DF40",
        form="Google Drive, to which the page links, without a form; CC BY-NC 4.0 for what the "
        "authors have made, and the terms of FaceForensics++ and Celeb-DF for the real crops",
        size="93 GB of fakes for testing and 93 GB for training",
        scripts="none; the lists, dataset_json, and the real crops are downloads of their own",
        reported="names of folders differ from the lists, real crops of CollabDiff and frames of "
        "heygen are missing (issues 16, 17, 20 and 29 of that page): fetch the newest lists",
    )

    def _read(self, path: Path) -> Listing:
        return reader.read(path, self._root, under=UNDER, method=_method)


def _method(path: str) -> str:
    """The folder of the method: labels in the lists are sometimes those of another method."""
    found = _METHOD.search(path.replace("\\", "/"))
    # A record holds no half of a character.
    return found[1].encode("utf-8", "backslashreplace").decode() if found else ""
