"""Names of files as people have them: suffixes in capitals, old encodings, control characters."""

import json
import os

import pytest

from data_builders import (
    celeb_df_pp,
    celeb_df_v2,
    deep_fake_detection,
    deeper_forensics,
    df40,
    dfdc,
    dfdc_preview,
    doctor,
    face_forensics,
    faces,
    ffiw10k,
    lists,
    uadfv,
    wild_deepfake,
)
from data_builders.errors import UserError

FF_FAKES, DFD_FAKES = (
    f"manipulated_sequences/{name}" for name in ("Deepfakes", "DeepFakeDetection")
)
#: Of each reader the part, a real video, a fake and, where there are masks, that of the fake; and
#: the lists that it needs.
TREES = {
    celeb_df_v2: ("", ["YouTube-real/{}", "Celeb-synthesis/{}"], {celeb_df_v2.builder.LIST: ""}),
    celeb_df_pp: (
        "",
        ["YouTube-real/{}", "Celeb-synthesis/FaceSwap/{0}/{0}"],
        {celeb_df_v2.builder.LIST: ""},
    ),
    deep_fake_detection: (
        "whole",
        [
            "original_sequences/actors/c23/videos/{}",
            f"{DFD_FAKES}/c23/videos/{{}}",
            f"{DFD_FAKES}/masks/videos/{{}}",
        ],
        {},
    ),
    ffiw10k: ("", [f"{kind}/train/{{}}" for kind in ("source", "target", "target_mask")], {}),
    uadfv: ("", ["real/{}", "fake/{}_fake"], {}),
}
#: The same of readers that take the names of lists.
LISTED = {
    deeper_forensics: (
        "end_to_end",
        ["original_sequences/youtube/c23/videos/000", "manipulated_videos/end_to_end/000_M101"],
        {
            "lists/splits/train.txt": "000_M101.mp4\n",
            "lists/splits/val.txt": "",
            "lists/splits/test.txt": "",
        },
    ),
    dfdc: (
        "",
        ["train/dfdc_train_part_0/a", "train/dfdc_train_part_0/b"],
        {
            "train/dfdc_train_part_0/metadata.json": json.dumps(
                {"a.mp4": {"label": "REAL"}, "b.mp4": {"label": "FAKE", "original": "a.mp4"}}
            )
        },
    ),
    dfdc_preview: (
        "",
        ["original_videos/1/1_A_001", "method_A/1/2_1_A_001"],
        {
            "dataset.json": json.dumps(
                {
                    "original_videos/1/1_A_001.mp4": {"label": "real", "set": "train"},
                    "method_A/1/2_1_A_001.mp4": {"label": "fake", "set": "train"},
                }
            )
        },
    ),
    face_forensics: (
        "deepfakes",
        [
            "original_sequences/youtube/c23/videos/071",
            f"{FF_FAKES}/c23/videos/071_054",
            f"{FF_FAKES}/masks/videos/071_054",
        ],
        {},
    ),
}


def made(module, root, name, suffix=".mp4"):
    """Makes empty files of a reader, and reads them."""
    config, paths, texts = {**TREES, **LISTED}[module]
    for path, text in {**{f"{p.format(name)}{suffix}": "" for p in paths}, **texts}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return module.Builder.find(root, config)


@pytest.mark.parametrize("module", [*TREES, *LISTED])
def test_a_suffix_may_be_in_capitals(module, tmp_path):
    plain = made(module, tmp_path / "plain", "01_02__a").videos
    capitals = made(module, tmp_path / "capitals", "01_02__a", ".MP4").videos
    assert {video.label for video in capitals} == {"real", "fake"}
    assert all(path.suffix == ".MP4" for v in capitals for path in v.files.values())
    assert [(str(v), v.identity, bool(v.mask)) for v in capitals] == [
        (str(v), v.identity, bool(v.mask)) for v in plain
    ]


@pytest.mark.parametrize("module", TREES)
def test_a_name_in_another_encoding_is_text_in_records(module, tmp_path):
    videos = made(module, tmp_path, os.fsdecode(b"caf\xe9")).videos
    assert {video.label for video in videos} == {"real", "fake"}
    for video in videos:
        assert r"caf\xe9" in video.video.encode().decode()
        f"{video.method}{video.identity}".encode()
        assert video.best.exists()  # the path stays what it is
        assert b"caf\xe9" in os.fsencode(video.best)


# The preview of DFDC asks for each file by its name.
@pytest.mark.parametrize(
    ("module", "place"),
    [
        *((m, None) for m in (*TREES, *LISTED) if m is not dfdc_preview),
        (face_forensics, FF_FAKES),
        (deep_fake_detection, DFD_FAKES),
    ],
)
def test_a_folder_that_cannot_be_read_ends_the_search(module, place, tmp_path, monkeypatch):
    """Its masks, or its qualities, would otherwise be taken for missing."""
    last = next(reversed(made(module, tmp_path, "01_02__a").videos))
    folder, listed = tmp_path / place if place else (last.mask or last.best).parent, os.listdir

    def refuse(path):
        if str(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(UserError, match="cannot read the folder: Permission denied") as error:
        made(module, tmp_path, "01_02__a")
    assert str(error.value).startswith(f"{folder}: ")


def test_of_two_suffixes_the_usual_one_is_taken(tmp_path):
    for suffix in (".mp4", ".MP4", ".mP4"):
        (tmp_path / f"a{suffix}").touch()
    assert lists.videos_in(tmp_path) == {"a": tmp_path / "a.mp4"}


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_crops_of_such_names(tmp_path):
    strange = os.fsdecode(b"caf\xe9")
    for label in ("real", "fake"):
        for number in (1, 2):
            folder = tmp_path / f"{label}_train" / strange / label / f"{strange}{number}"
            folder.mkdir(parents=True)
            (folder / "0.PNG").touch()
    found = wild_deepfake.Builder(manual_dir=tmp_path).clip_sources()["train"]
    assert len(found) == 4
    assert {item.video for item in found} == {
        rf"{label}_train/caf\xe9/caf\xe9{number}" for label in ("real", "fake") for number in (1, 2)
    }
    df40.builder._method("deepfakes_detection_datasets/DF40/a\udce9/0.png").encode()


def test_a_list_whose_names_are_no_text(tmp_path):
    name = "method_A/1/caf\udce9.mp4"
    (tmp_path / "dataset.json").write_text(json.dumps({name: {"label": "fake", "set": "train"}}))
    with pytest.raises(UserError, match="must be names of printable characters"):
        dfdc_preview.Builder.find(tmp_path)


def test_the_doctor_shows_names_on_their_line(tmp_path, capsys):
    for path in ("real/a\x1b[2J", "real/0", "fake/0_fake", "fake/b\nnote: all is well_fake"):
        (tmp_path / f"{path}.mp4").parent.mkdir(exist_ok=True)
        (tmp_path / f"{path}.mp4").touch()
    (tmp_path / os.fsdecode(b"real/caf\xe9.mp4")).touch()
    dataset = uadfv.Builder(
        manual_dir=tmp_path, data_dir=tmp_path / "data", face_source=faces.Whole()
    )
    doctor.look(dataset)
    out = capsys.readouterr().out
    assert {r"  fake/a\x1b[2J", r"  real/b\nnote: all is well", r"  fake/caf\xe9"} <= {
        *out.splitlines()
    }
    assert "\x1b" not in out
