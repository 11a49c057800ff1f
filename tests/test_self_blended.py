"""Blended faces: masks lie where they should, real and fake share all but the blend."""

import csv
import dataclasses
import zlib

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_builders import build
from data_builders import faces as faces_of_clips
from data_builders.errors import UserError
from data_builders.mtcnn import Detector
from data_builders.self_blended import blend, builder, clip, footage, preview
from data_builders.self_blended import face as faces
from data_builders.self_blended.face import Face
from tests import trees

PEOPLE = 10
UPRIGHT = Face(
    np.array([60.0, 40, 140, 150]),
    np.array([[80.0, 80], [120, 80], [100, 105], [84, 130], [116, 130]]),
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of rendered people, two files of each; a face that MTCNN finds, or nothing."""
    folder = tmp_path_factory.mktemp("people")
    for person in range(PEOPLE):
        image = trees.frames_of(person % 3, 6)[3 + person % 2]
        image = np.roll(image, person, axis=1)  # another file for each
        path = folder / f"p{person}" / "a.png"
        path.parent.mkdir()
        cv2.imwrite(str(path), image[..., ::-1])
    return folder


def made(photographs, folder, **recipe):
    dataset = build.builder(
        "self_blended", data_dir=folder, manual_dir=photographs, max_skipped=0.5, **recipe
    )
    build.prepare(dataset)
    return dataset


def records(dataset):
    return {
        split: [
            {name: v.decode() if isinstance(v, bytes) else v for name, v in record.items()}
            for record in dataset.as_data_source(split)
        ]
        for split in dataset.info.splits
    }


# Geometry


def test_coordinates_put_the_eyes_and_the_mouth_where_they_belong():
    turned = UPRIGHT.moved(cv2.getRotationMatrix2D((100, 100), 25, 1.4))
    for one in (UPRIGHT, turned):
        matrix = one.coordinates()
        left, right, _, *mouth = one.landmarks @ matrix[:, :2].T + matrix[:, 2]
        np.testing.assert_allclose([left, right], [(-0.5, 0), (0.5, 0)], atol=1e-6)
        np.testing.assert_allclose(np.mean(mouth, axis=0)[1], 1, atol=1e-6)


def test_a_head_in_profile_still_has_a_width():
    points = UPRIGHT.landmarks.copy()
    points[:, 0] = 100 + 0.02 * (points[:, 0] - 100)
    profile = dataclasses.replace(UPRIGHT, landmarks=points)
    mask = faces.mask(profile, faces.FULL, (200, 200), np.random.default_rng(0), softness=0.1)
    assert 500 < (mask > 0.5).sum() < 20000


@pytest.mark.parametrize(
    ("part", "inside", "outside"),
    [
        (faces.FULL, (0, 1, 2, 3, 4), ()),
        (faces.LOWER, (3, 4), (0, 1)),
        (faces.UPPER, (0, 1), (3, 4)),
        (faces.EYES, (0, 1), (2, 3, 4)),
        (faces.INNER, (0, 1, 2, 3, 4), ()),
    ],
)
def test_a_mask_covers_its_part(part, inside, outside):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        mask = faces.mask(UPRIGHT, part, (200, 200), rng, softness=0.15)
        at = [mask[round(y), round(x)] for x, y in UPRIGHT.landmarks]
        assert all(at[i] > 0.4 for i in inside), at
        assert all(at[i] == 0 for i in outside), at
        border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        assert not border.any()
        assert 0 <= mask.min() <= mask.max() <= 1


def test_one_face_is_brought_onto_another():
    """Points that a known similarity has moved are moved by the same one."""
    angle, scale, shift = 0.3, 1.7, np.array([12.0, -5])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    target = dataclasses.replace(UPRIGHT, landmarks=UPRIGHT.landmarks @ turn.T + shift)
    found = faces.onto(UPRIGHT, target)
    np.testing.assert_allclose(found[:, :2], turn, atol=1e-9)
    np.testing.assert_allclose(found[:, 2], shift, atol=1e-9)


# The blend


@pytest.mark.parametrize("family", blend.FAMILIES)
def test_a_family_changes_the_face_and_nothing_else(family):
    image = trees.frames_of(0, 6)[4]
    found = Detector().detect([image])[0]
    face = Face(found.boxes[0], found.landmarks[0])
    other = trees.frames_of(2, 6)[3]
    theirs = Detector().detect([other])[0]
    donor = (other, Face(theirs.boxes[0], theirs.landmarks[0])) if family == "swap" else None
    for seed in range(4):
        recipe = blend.draw(family, face.size, 0.8, np.random.default_rng(seed))
        assert recipe == blend.draw(family, face.size, 0.8, np.random.default_rng(seed))
        fake = blend.apply(image, face, recipe, donor=donor, moment=1)
        difference = np.abs(fake.astype(int) - image).max(axis=2)
        x0, y0, x1, y1 = face.box + np.array([-0.5, -0.5, 0.5, 0.5]) * face.size
        inside = np.zeros(difference.shape, bool)
        inside[max(0, int(y0)) : int(y1), max(0, int(x0)) : int(x1)] = True
        assert not difference[~inside].any()
        assert difference.max() > 8
        assert (difference > 2).mean() > 0.002
        again = blend.apply(image, face, recipe, donor=donor, moment=2)
        assert (family == "flicker") == bool((again != fake).any())


def test_a_swap_shows_the_other_face():
    """Blended onto white, the face of a donor on black is what is dark."""
    white = np.full((200, 200, 3), 230, np.uint8)
    white[::2, ::2] = 250
    donor = np.full((200, 200, 3), 90, np.uint8)
    donor[100:, :] = 30
    recipe = dataclasses.replace(
        blend.draw("swap", 110, 1, np.random.default_rng(0)),
        **{"strength": 1.0, "gain": (1, 1, 1), "bias": (0, 0, 0), "resolution": 0, "sharpen": 0.0},
        **{"shift": (0, 0), "scale": 1.0, "angle": 0.0, "double": False, "softness": 0.1},
    )
    fake = blend.apply(white, UPRIGHT, recipe, donor=(donor, UPRIGHT)).astype(int)
    middle = fake[:, 100].mean(axis=1)
    assert middle[85] - middle[115] > 5  # its step from light to dark, in the target's colours
    assert (fake[:5] == white[:5]).all()


def test_a_sheet_shows_every_family(photographs, tmp_path):
    out = tmp_path / "sheet.png"
    assert preview.main(["--manual_dir", str(photographs), "--out", str(out)]) == 0
    image = cv2.imread(str(out))
    columns = [image[30:170, 50 + 152 * i : 190 + 152 * i] for i in range(1 + len(blend.FAMILIES))]
    assert all((column != columns[0]).any() for column in columns[1:])
    for person in photographs.iterdir():
        (tmp_path / "alone").mkdir(exist_ok=True)
        (tmp_path / "alone/a.png").write_bytes((person / "a.png").read_bytes())
    assert preview.main(["--manual_dir", str(tmp_path / "alone"), "--out", str(out)]) == 1


# The dataset


@pytest.fixture(scope="module")
def dataset(photographs, tmp_path_factory):
    return made(
        photographs,
        tmp_path_factory.mktemp("built"),
        qualities=("raw", "c40"),
        frames_per_video=1,
        variants=3,
    )


def test_each_real_clip_has_its_fake(dataset):
    people = {}
    for split, found in records(dataset).items():
        of = {(r["video"], r["label"]): r for r in found}
        assert len(of) == len(found)
        for (video, label), record in of.items():
            other = of[video, 1 - label]
            np.testing.assert_array_equal(record["box"], other["box"])
            assert record["image"]["raw"].shape == other["image"]["raw"].shape
            assert record["identity"] == other["identity"]
            assert (record["method"] == "original") == (label == 0)
            assert label == 0 or record["method"] in blend.FAMILIES
            people.setdefault(record["identity"], set()).add(split)
    assert len(people) >= PEOPLE // 2
    assert all(len(splits) == 1 for splits in people.values())


def test_nothing_but_the_blend_tells_real_from_fake(dataset):
    """A classifier of all that is around the face finds chance: sizes of files, box, border."""
    rows, labels, groups = [], [], []
    for found in records(dataset).values():
        for record in found:
            features = [*record["box"], record["frame"]]
            for image in record["image"].values():
                height, width = image.shape[:2]
                edge = max(2, height // 16)
                border = [image[:edge], image[:, :edge], image[:, -edge:]]
                features += [part.mean() for part in border] + [part.std() for part in border]
                features.append(len(cv2.imencode(".png", image)[1]))
                features += [height, width]
            rows.append(features)
            labels.append(record["label"])
            groups.append(zlib.crc32(record["identity"].encode()) % 2)
    rows, labels, groups = map(np.array, (rows, labels, groups))
    assert len(rows) > 20
    scores = np.zeros(len(rows))
    for held_out in (0, 1):  # people whom the classifier has not seen
        train = groups != held_out
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        model.fit(rows[train], labels[train])
        scores[~train] = model.predict_proba(rows[~train])[:, 1]
    assert 0.35 < roc_auc_score(labels, scores) < 0.65


def test_the_border_of_raw_crops_is_the_same_in_both(dataset):
    """The camera, its noise and what came before the qualities are those of the pair."""
    same = []
    for found in records(dataset).values():
        of = {(r["video"], r["label"]): r["image"]["raw"] for r in found}
        for (video, label), image in of.items():
            if label:
                edge = max(2, len(image) // 20)
                same.append((image[:edge] == of[video, 0][:edge]).mean())
    # An encoding before the qualities spreads a change over its blocks, here and there.
    assert np.median(same) == 1
    assert min(same) > 0.2


def test_the_same_seed_gives_the_same_pixels(photographs, tmp_path):
    source = made_source(photographs, tmp_path, seed=3)
    first, again = (clip.read(source) for _ in range(2))
    other = clip.read(made_source(photographs, tmp_path, seed=4))
    for one, two in zip(first.crops["c40"], again.crops["c40"], strict=True):
        np.testing.assert_array_equal(one, two)
    assert (first.boxes != other.boxes).any()


def made_source(photographs, folder, **recipe):
    dataset = build.builder(
        "self_blended",
        data_dir=folder,
        manual_dir=photographs,
        qualities=("raw", "c40"),
        **recipe,
    )
    sources = [source for split in dataset.clip_sources().values() for source in split]
    return next(source for source in sources if source.files.label == "fake")


def test_families_and_variants_are_chosen(photographs, tmp_path):
    dataset = build.builder(
        "self_blended",
        data_dir=tmp_path,
        manual_dir=photographs,
        families=["eyes", "swap"],
        variants=2,
    )
    for sources in dataset.clip_sources().values():
        people = {source.files.identity for source in sources}
        fakes = [source for source in sources if source.files.label == "fake"]
        assert len(fakes) == 2 * len(people)
        assert {source.files.method for source in fakes} <= {"eyes", "swap"}
        for source in fakes:
            if source.files.method == "swap":
                assert source.donor.parent.name in people - {source.files.identity}
    assert dataset.recipe.describe()["families"] == ["eyes", "swap"]
    for wrong, message in (
        ({"families": ["eye"]}, "did you mean 'eyes'"),
        ({"variants": 0}, "1"),
        ({"face_source": faces_of_clips.Whole()}, "--faces: dataset 'self_blended' has no such"),
    ):
        with pytest.raises(UserError, match=message):
            build.builder("self_blended", data_dir=tmp_path, manual_dir=photographs, **wrong)
    with pytest.raises(UserError, match="--variants: dataset 'ffiw10k' has no such option"):
        build.builder("ffiw10k", data_dir=tmp_path, manual_dir=photographs, variants=2)


def test_both_clips_of_a_pair_have_the_crf_that_is_stored(photographs, tmp_path):
    dataset = made(
        photographs, tmp_path, qualities=("raw", "random"), frames_per_video=1, variants=1
    )
    stored = dataset.info.metadata["random_crf"]
    for found in records(dataset).values():
        for record in found:
            real = stored[f"original/{record['video']}"]
            assert 18 <= stored[f"{record['method']}/{record['video']}"] == real <= 45
    assert len(set(stored.values())) > 3


def test_a_list_says_who_is_in_which_file(photographs, tmp_path):
    folder = tmp_path / "flat"
    folder.mkdir()
    for person in range(4):
        (folder / f"{person}.png").write_bytes((photographs / f"p{person}/a.png").read_bytes())
    layout = builder.SelfBlended.find(folder)
    assert {files.identity for files in layout.videos} == {"0", "1", "2", "3"}

    def listed(*rows):
        with (folder / builder.LIST).open("w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file).writerows([("file", "identity", "age"), *rows])

    listed(("0.png", "ann", 3), ("1.png", "ann", 4), ("9.png", "bob", 5))
    layout = builder.SelfBlended.find(folder)
    assert {files.identity for files in layout.videos} == {"ann"}
    assert sum(bool(listed) for listed in layout.splits.values()) == 1
    assert layout.missing == ["9.png"]
    assert layout.notes == ["2 files are not in identities.csv and are left out"]
    listed((".\\0.png", "ann", 3))  # as Windows writes it
    assert [files.video for files in builder.SelfBlended.find(folder).videos] == ["0"]
    listed(("0.png", "ann", 3), ("0.png", "bob", 4))
    with pytest.raises(UserError, match=r"identities.csv: line 3 gives 0.png a second identity"):
        builder.SelfBlended.find(folder)
    listed(("0.png", " ", 3))
    with pytest.raises(UserError, match="line 2 has no file or no identity"):
        builder.SelfBlended.find(folder)


def test_the_doctor_does_not_take_photographs_for_broken_videos(photographs, capsys):
    assert build.main(["self_blended", "--manual_dir", str(photographs), "--doctor"]) == 1
    assert "--doctor: self_blended is not made from a folder of videos" in capsys.readouterr().err


def test_footage_of_a_small_face_is_not_enlarged():
    small = UPRIGHT.moved(np.array([[0.5, 0, 0], [0, 0.5, 0]]))  # 55 px
    for seed in range(30):
        drawn = footage.draw((200, 200), small, 4, np.random.default_rng(seed), moves=True)
        assert drawn.scale <= 1.25 + 1e-9
        assert drawn.size[0] % 2 == drawn.size[1] % 2 == 0
        larger = footage.draw((900, 900), UPRIGHT, 4, np.random.default_rng(seed), moves=True)
        assert 60 - 1e-6 <= larger.scale * UPRIGHT.size <= 1.25 * UPRIGHT.size + 1e-6


def test_frames_of_a_video_are_blended_alike(tmp_path):
    """A clip of a video: its own movement, and one blend through all frames."""
    folder = tmp_path / "videos"
    trees.write(folder / "ann/a.mp4", trees.rendered("2", 12, crf=10))
    source = made_source(folder, tmp_path, families=["colour"], frames_per_video=2)
    fake_clip = clip.read(source)
    real = clip.read(
        dataclasses.replace(
            source, files=dataclasses.replace(source.files, method="original", label="real")
        )
    )
    assert len(fake_clip.crops["raw"]) == 2
    shift = [
        (np.asarray(fake, int) - np.asarray(true, int)).mean()
        for fake, true in zip(fake_clip.crops["raw"], real.crops["raw"], strict=True)
    ]
    assert abs(shift[0]) > 0.2
    assert shift[0] == pytest.approx(shift[1], rel=0.5)
