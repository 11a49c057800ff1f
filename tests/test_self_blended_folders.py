"""Folders of faces as people have them: bad files, alike names, donors; and the doctor on them."""

import collections
import dataclasses
import os
import re

import cv2
import numpy as np
import pytest

from data_builders import build, digest, h264
from data_builders.errors import UnusableClipError, UserError
from data_builders.self_blended import builder, clip, doctor, recipes, stills
from tests import trees

pytestmark = pytest.mark.usefixtures("pairs_in_this_process")

SIDE = 200


def picture(person, shift=0):
    return np.roll(trees.frames_of(person, 6)[4], shift, axis=1)[..., ::-1]


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


NOISE = np.repeat(
    np.random.default_rng(0).integers(96, 160, (SIDE, SIDE, 1), dtype=np.uint8), 3, axis=2
)


def people_of(split, count):
    """Names that are put in a split."""
    names = (f"person{i}" for i in range(1000))
    return [name for name in names if builder._split_of(name) == split][:count]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four people to train on, one to validate, two to test: with bad files, and one video."""
    root = tmp_path_factory.mktemp("people")
    good, other, bare, broken = people_of("train", 4)
    write(root / good / "a.png", picture(0))
    write(root / good / "b.png", picture(0, 5))
    write(root / other / "a.png", cv2.resize(picture(2), (120, 120)))
    write(root / bare / "a.png", NOISE)
    write(root / broken / "a.png", NOISE)
    (root / broken / "a.png").write_bytes(b"no image")
    write(root / people_of("validation", 1)[0] / "a.png", picture(2, 3))
    for light, name in zip((1, 0.8), people_of("test", 2), strict=True):
        frame = np.uint8(picture(0)[..., ::-1] * light)
        trees.write(root / name / "a.mp4", h264.encode([frame] * 6, crf=10))
    return root


def dataset_of(folder, data_dir, **recipe):
    options = {"qualities": ("raw", "c40"), "frames_per_video": 1, "max_skipped": 0.9}
    return build.builder("self_blended", data_dir=data_dir, manual_dir=folder, **options | recipe)


def videos(dataset):
    return [
        {(r["video"].decode(), int(r["label"])) for r in dataset.as_data_source(split)}
        for split in dataset.info.splits
    ]


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """An ordinary build, of two families in turn, a swap being the second."""
    dataset = dataset_of(
        folder, tmp_path_factory.mktemp("whole"), families=["eyes", "swap"], variants=1
    )
    build.prepare(dataset)
    return dataset


def test_a_pair_is_there_or_not(whole):
    """Files without a face, and files that are none, are passed over as donors, too."""
    for found in videos(whole):
        names = {video for video, _ in found}
        assert names
        assert found == {(name, label) for name in names for label in (0, 1)}
    bare, broken = people_of("train", 4)[2:]
    skipped = whole.info.metadata["skipped"]
    assert len(skipped) == 2
    assert sum(f"{bare}/a.png: no face was found" in reason for reason in skipped) == 1
    assert sum(f"{broken}/a.png: not a readable image" in reason for reason in skipped) == 1


def test_the_first_donor_with_a_face_is_used(folder, whole):
    good, other, bare, broken = (folder / name / "a.png" for name in people_of("train", 4))
    source = next(
        source
        for source in whole.clip_sources()["train"]
        if source.donors and source.files.best.parent == good.parent
    )
    assert {bare, broken} <= {bare, broken, other} == set(source.donors)
    tried = [
        clip.read(dataclasses.replace(source, donors=donors)).fake.crops["raw"][0]
        for donors in ((other,), (bare, broken, other))
    ]
    np.testing.assert_array_equal(*tried)
    with pytest.raises(UnusableClipError, match=r"none of 2 files of other people .*not a readab"):
        clip.read(dataclasses.replace(source, donors=(bare, broken)))


def test_a_kept_pair_is_made_again_where_a_donor_is_another_file(folder, tmp_path):
    names = people_of("train", 2)
    for name, person in zip(names, (0, 2), strict=True):
        write(tmp_path / "people" / name / "a.png", picture(person))
    dataset = dataset_of(tmp_path / "people", tmp_path, families=["swap"], variants=1)
    source = dataset.clip_sources()["train"][0]
    (donor,) = source.donors
    reader = dataset.clip_reader()

    def fake():
        return reader(source).examples[1][1]["image"]["raw"]

    first = fake()
    assert fake() == first
    assert dataset.clips_done() == 1
    write(donor, picture(1))
    assert fake() != first
    assert dataset.clips_done() == 2


def test_donors_are_other_people_of_the_split_and_not_always_the_same(tmp_path):
    people = set(people_of("train", 9))
    for i, name in enumerate(people):
        for j in range(1 + i % 3):
            write(tmp_path / name / f"{j}.png", np.zeros((2, 2, 3), np.uint8))
    (sources,) = (
        dataset_of(tmp_path, tmp_path, families=["swap"], variants=9).clip_sources().values()
    )
    used = set()
    for source in sources:
        named = {path.parent.name for path in source.donors}
        assert named <= people - {source.files.identity}
        assert 1 < len(source.donors) <= 8
        used |= set(source.donors)
    assert used == set(tmp_path.rglob("*.png"))


def test_folders_behind_links_are_read_once(tmp_path, monkeypatch):
    faces, elsewhere = tmp_path / "faces", tmp_path / "elsewhere"
    for path in (faces / "carol", elsewhere / "bob/2025", faces / ".hidden"):
        trees.write(path / "1.jpg", b"")
    for link, to in (
        ("bob", elsewhere / "bob"),
        ("robert", elsewhere / "bob"),  # the same person again
        ("a", faces / "carol"),  # who is there under her own name
        ("carol/all", faces),  # a ring
        ("lost", elsewhere / "nobody"),
    ):
        (faces / link).symlink_to(to)
    layout = builder.SelfBlended.find(faces)
    found = {files.best.relative_to(faces): files.identity for files in layout.videos}
    assert {str(path): who for path, who in found.items()} == {
        "bob/2025/1.jpg": "bob",
        "carol/1.jpg": "carol",
    }
    assert not layout.notes
    (faces / builder.LIST).write_text("file,identity\nbob/2025/1.jpg,Robert\n")
    listed = builder.SelfBlended.find(faces)
    assert [files.identity for files in listed.videos] == ["Robert"]
    (faces / builder.LIST).unlink()

    scan = os.scandir

    def refuse(path):
        if str(path) == str(faces / "carol"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    layout = builder.SelfBlended.find(faces)
    assert layout.notes == [f"1 folders are left out: {faces / 'carol'}: Permission denied"]


def test_a_swap_comes_after_each_of_the_others(tmp_path):
    for i in range(16):
        write(tmp_path / f"person{i}/a.png", np.zeros((2, 2, 3), np.uint8))
    dataset = dataset_of(tmp_path, tmp_path, frames_per_video=2)
    methods = [source.files.method for source in dataset.clip_sources()["train"]]
    assert len(methods) > 24
    assert {i % 2 for i, method in enumerate(methods) if method == "swap"} == {1}
    others = [method for method in methods if method != "swap"]
    assert others[:9] == [family for family in recipes.UNPAINTED if family != "swap"]
    assert others[9:18] == [*others[1:9], others[0]]


def test_all_files_get_all_families(tmp_path):
    """Eight variants are half of sixteen turns: no file has one half of the families alone."""
    for i in range(40):
        for name in ("neutral.png", "smiling.png"):
            write(tmp_path / f"person{i}/{name}", np.zeros((2, 2, 3), np.uint8))
    sources = dataset_of(tmp_path, tmp_path, variants=8).clip_sources()["train"]
    for name in ("neutral", "smiling"):
        methods = [s.files.method for s in sources if s.files.best.stem == name]
        counts = collections.Counter(methods)
        assert counts["swap"] == len(methods) // 2
        others = [count for method, count in counts.items() if method != "swap"]
        assert len(others) == 8
        assert max(others) < 2 * min(others)


def test_one_frame_cannot_flicker(tmp_path, capsys):
    for i in range(16):
        write(tmp_path / f"person{i}/a.png", np.zeros((2, 2, 3), np.uint8))
    sources = dataset_of(tmp_path, tmp_path).clip_sources()["train"]
    assert {s.files.method for s in sources} == set(recipes.UNPAINTED) - {"flicker"}
    arguments = ["self_blended", "--manual_dir", str(tmp_path), "--families", "flicker"]
    assert build.main([*arguments, "--data_dir", str(tmp_path / "data")]) == 1
    assert "--families: flicker is seen from frame to frame; give " in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_somebody_alone_in_a_split_gives_no_swaps(tmp_path, capsys):
    write(tmp_path / "ann" / "a.png", np.zeros((2, 2, 3), np.uint8))
    (sources,) = dataset_of(tmp_path, tmp_path).clip_sources().values()
    assert "swap" not in {source.files.method for source in sources}
    arguments = ["self_blended", "--manual_dir", str(tmp_path), "--families", "swap"]
    for more in ([], ["--doctor"]):
        assert build.main([*arguments, "--data_dir", str(tmp_path / "data"), *more]) == 1
        assert "error: --families: a swap needs two people" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_names_that_are_alike_stay_apart(tmp_path):
    for name in ("ann/a.png", "ann/a.jpg", "ann_a.png", "ann/b.png", "jos\u0065\u0301/a.png"):
        write(tmp_path / name, np.zeros((2, 2, 3), np.uint8))
    (tmp_path / "album.jpg").mkdir()
    with open(bytes(tmp_path) + b"/m\xfcller.png", "wb") as file:  # as it was named before UTF-8
        file.write(b"")
    listed = builder.SelfBlended.find(tmp_path).videos
    names = [files.video for files in listed]
    assert len(set(names)) == len(names) == 6
    assert "ann_b" in names
    assert {files.identity for files in listed} == {"ann", "ann_a", "jos\u00e9", "m\\xfcller"}
    sources = dataset_of(tmp_path, tmp_path, variants=2).clip_sources()
    pairs = [name for made in sources.values() for source in made for name in source.names]
    assert len(set(pairs)) == len(pairs) == 24


def test_files_of_other_kinds_are_counted(tmp_path):
    """Those of telephones, of which a folder may be full, or which a list may name."""
    for name in ("ann/a.png", "ann/b.HEIC", "bob/a.heic", "bob/LICENSE", "bob/.hidden.gif"):
        write(tmp_path / "x.png", np.zeros((2, 2, 3), np.uint8))
        trees.write(tmp_path / name, (tmp_path / "x.png").read_bytes())
    (tmp_path / "x.png").unlink()
    (note,) = builder.SelfBlended.find(tmp_path).notes
    assert note == "3 files are no images or videos that are read: .heic (2), without an ending (1)"
    table = tmp_path / builder.LIST
    table.write_text("file,identity\nbob/a.heic,bob\nnone.png,ann\n")
    with pytest.raises(UserError, match=r"none of its 2 files is an image or a video in the fol"):
        builder.SelfBlended.find(tmp_path)
    table.write_text("file,identity\nbob/a.heic,bob\nann/a.png,ann\nbob/.hidden.gif,bob\n")
    layout = builder.SelfBlended.find(tmp_path)
    assert layout.notes == ["2 files are no images or videos that are read: .gif (1), .heic (1)"]
    trees.write(tmp_path / "bob/.hidden.png", b"")
    trees.write(tmp_path / "other/b.png", b"")
    table.write_text("file,identity\nann/a.png,ann\nbob/.hidden.png,bob\n../other/b.png,bob\n")
    trees.write(tmp_path.parent / "other/b.png", b"")
    notes = builder.SelfBlended.find(tmp_path).notes
    assert notes[-1].startswith("2 files of identities.csv are hidden or not in the folder: ")
    assert "other/b.png (and 1 more)" in notes[-1]
    assert not any("no images or videos" in note for note in notes)


def test_frames_that_only_the_index_of_a_video_has_are_not_asked_for(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    trees.write(path, trees.rendered("2", 12, crf=10))
    whole, probe = list(h264.decode(path)), h264.probe
    monkeypatch.setattr(stills, "_with_faces", lambda path, images: images)
    np.testing.assert_array_equal(stills.read_stills(path, 4, 0.9), whole[7:11])
    monkeypatch.setattr(h264, "probe", lambda path: probe(path)._replace(frames=21))
    os.utime(path, (0, 0))  # as another file: of one, frames are counted once
    np.testing.assert_array_equal(stills.read_stills(path, 4, 0.9), whole[7:11])
    with pytest.raises(UnusableClipError, match=r"a\.mp4: has 12 frames, and 16 are needed"):
        stills.read_stills(path, 16, 0.9)


def test_a_list_with_a_quote_that_does_not_end_is_one_line(tmp_path):
    write(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8))
    (tmp_path / builder.LIST).write_text('file,identity\n"a.png,ann\n' + "x" * 200_000)
    with pytest.raises(
        UserError, match=r"identities.csv: the row after line 1 cannot be read: .*quote w"
    ):
        builder.SelfBlended.find(tmp_path)


def test_beam_makes_the_same_records(folder, whole, tmp_path):
    piped = dataset_of(folder, tmp_path, families=["eyes", "swap"], variants=1)
    build.prepare(piped, beam=["--direct_num_workers=2", "--direct_running_mode=multi_threading"])
    assert dict(piped.info.metadata["digest"]) == dict(whole.info.metadata["digest"])
    assert piped.info.metadata["skipped"] == whole.info.metadata["skipped"]
    for split in whole.info.splits:
        assert digest.digest(piped, split) == digest.digest(whole, split)
        ours, theirs = (
            sorted(one.data_path.glob(f"*-{split}.array_record*")) for one in (whole, piped)
        )
        assert [path.read_bytes() for path in ours] == [path.read_bytes() for path in theirs]


def test_the_doctor_looks_at_photographs_and_videos(folder, tmp_path, capsys):
    arguments = ["self_blended", "--manual_dir", str(folder), "--data_dir", str(tmp_path / "data")]
    assert build.main([*arguments, "--frames_per_video", "1", "--doctor"]) == 0
    out = capsys.readouterr().out
    assert "IDENTITY/*.jpg" in out  # what is expected
    rows = [line.split() for line in out.splitlines()]
    assert ["train", "4", "5", "0"] in rows
    assert ["validation", "1", "1", "0"] in rows
    assert ["test", "2", "0", "2"] in rows
    assert "identities with one file: 6 of 7 (86 %)" in out
    assert "note: validation has one identity, so it has no fakes of family swap" in out
    assert "in a sample of 8 of 8 files:" in out
    assert re.search(r"unreadable: 1\n .*person\d+/a.png: not a readable image", out)
    assert re.search(r"without a face: 1\n .*person\d+/a.png\n", out)
    sizes = re.search(r"faces of (\d+) to (\d+) px, median (\d+) px; 1 of 6 \(17 %\) are und", out)
    smallest, largest, median = map(int, sizes.groups())
    assert 30 < smallest < 60 < median <= largest < trees.SIZE
    assert "to be made: 64 pairs, 128 tuples" in out
    assert re.search(r"fakes: .*\b28 swap", out)
    assert "core-hours" in out
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("frames", "qualities", "seconds"),
    [(2, 3, 34.9), (8, 3, 94.7), (16, 3, 171.5), (8, 1, 53.9), (8, 6, 135.7)],
)
def test_the_time_of_a_build_is_near_what_builds_took(frames, qualities, seconds):
    """48 pairs of 24 photographs, on one core of an AMD EPYC, with 4 seconds to start."""
    assert 4 + doctor.build_time(48, frames, qualities) == pytest.approx(seconds, rel=0.1)
