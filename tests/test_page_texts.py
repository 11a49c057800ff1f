"""The texts of the page of the service: all are in one file, from which others can translate."""

import importlib.resources
import json
import re

PAGE = importlib.resources.files("qad_jax.detection.server") / "page"
TEXTS = json.loads((PAGE / "texts.json").read_text())


def test_every_text_is_in_the_file_of_texts():
    """None is missing, and none is left over."""
    used = set()
    for path in PAGE.iterdir():
        text = path.read_text()
        used |= set(re.findall(r'data-text="(\w+)"', text))
        used |= set(re.findall(r'(?:say|button)\("(\w+)"', text))
        used |= set(re.findall(r'key: "(\w+)"', text))
        for start in re.findall(r"say\(`(\w+)_\$\{", text):
            used |= {key for key in TEXTS if key.startswith(f"{start}_")}
    assert used == TEXTS.keys() - {"lang", "dir"}
    stages = {"reading", "scoring", "drawing"}
    assert {f"stage_{name}" for name in stages} <= TEXTS.keys()
    assert {f"answer_{name}" for name in ("real", "fake", "inconclusive", "no_face", "error")} <= (
        TEXTS.keys()
    )
