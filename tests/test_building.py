"""What may happen to a build: it is stopped, starts twice, or finds a folder that it cannot use."""

import cv2
import numpy as np
import pytest

from data_builders import build, paired
from data_builders.records import Clip, Pair
from data_builders.self_blended.builder import SelfBlended
from data_builders.video_builder import VideoDatasetBuilder
from tests import trees


@pytest.fixture
def plain_clips(monkeypatch):
    """Clips that say what the lists say, and of which no face is looked for."""

    def read(source):
        files = source.files
        crop = np.zeros((4, 4, 3), np.uint8)
        real, fake = (
            Clip(method, files.video, files.identity, label, [0], np.zeros((1, 4)), {"raw": [crop]})
            for method, label in (("original", "real"), ("eyes", "fake"))
        )
        return Pair(real, fake)

    monkeypatch.setattr(SelfBlended, "read_clip", staticmethod(read))
    monkeypatch.setattr(VideoDatasetBuilder, "APART", False)


def test_a_kept_clip_is_made_again_where_a_list_or_a_library_is_another(
    plain_clips, monkeypatch, tmp_path
):
    """Splits are those of the lists as they are: an older identity would be in two of them."""
    trees.write(tmp_path / "people/1.png", cv2.imencode(".png", trees.frames_of(0, 6)[4])[1])
    dataset = build.builder("self_blended", data_dir=tmp_path, manual_dir=tmp_path / "people")

    def made(identity):
        (tmp_path / "people/identities.csv").write_text(f"file,identity\n1.png,{identity}\n")
        (sources,) = dataset.clip_sources().values()
        examples = dataset.clip_reader()(sources[0]).examples
        return {example["identity"] for _, example in examples}, dataset.clips_done()

    assert made("alice") == ({"alice"}, 1)
    assert made("alice") == ({"alice"}, 1)
    assert made("carol7") == ({"carol7"}, 2)
    newer = {**paired.shaping_versions(), "av": "99"}
    monkeypatch.setattr("data_builders.video_builder.shaping_versions", lambda: newer)
    assert made("carol7") == ({"carol7"}, 3)
