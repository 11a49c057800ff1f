"""The benchmark of the check for leakage, on two people."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import leaked_videos


def test_the_person_in_training_is_found_and_the_other_is_not():
    rows = {row.name: row for row in leaked_videos.measure(people=2, times=1)}
    for name in ("at CRF 23", "cut otherwise"):
        assert (rows[name].found, rows[name].wrong) == (1, 0)
    for name in ("other people", "fakes of other people"):
        assert (rows[name].found, rows[name].wrong) == (0, 0)
    assert rows["at CRF 23"].bits[1] < rows["other people"].bits[0]


def test_a_crop_is_cut_where_it_is_said():
    frame = np.arange(100 * 100, dtype=np.int64).reshape(100, 100)[..., None]
    box = np.float32([[20, 30, 60, 70]])
    (same,) = leaked_videos._cut([frame], box, leaked_videos.SAME_CUT)
    np.testing.assert_array_equal(same, frame[30:70, 20:60])
    (moved,) = leaked_videos._cut([frame], box, (0.5, 0.25, -0.1))  # 20 wide, around (50, 46)
    np.testing.assert_array_equal(moved, frame[36:56, 40:60])
