"""Small copies of more official folder trees, in the manner of `tests.trees`.

Each function takes the folder and the number of frames of each video, and returns what is spoilt.
"""

import json

from data_builders import h264
from data_builders.celeb_df_v2.builder import LIST
from tests import trees
from tests.trees import rendered, truncate, write


def dfdc(folder, frames=4):
    """DFDC: parts 0, 1 and 7 of 50, test, and no validation.

    Returns:
      Names: 'truncated', 'faceless' and 'absent' fakes of part 0, a real one of part 1 whose fake
      is in part 7 ('shared'), and 'test', labels by name.
    """
    parts = {
        0: {"aareal": None, "bafake": "aareal", "bbfake": "aareal", "bcfake": "aareal"},
        1: {"careal": None, "cafake": "careal", "shared": None},
        7: {"dareal": None, "dafake": "dareal", "dbfake": "shared"},
    }
    for number, videos in parts.items():
        part = folder / f"train/dfdc_train_part_{number}"
        content = {}
        for name, source in videos.items():
            label = {"label": "FAKE" if source else "REAL", "split": "train"}
            original = {"original": f"{source}.mp4"} if source else {}
            content[f"{name}.mp4"] = {**label, **original}
            write(part / f"{name}.mp4", rendered(name, frames, fake=bool(source)))
        (part / "metadata.json").write_text(json.dumps(content))
    first = folder / "train/dfdc_train_part_0"
    truncate(first / "bafake.mp4")
    write(first / "bbfake.mp4", trees.noise(frames, 23))
    (first / "bcfake.mp4").unlink()
    test = {"eatest": 1, "ebtest": 0}
    for name, label in test.items():
        write(folder / f"test/{name}.mp4", rendered(name, frames, fake=bool(label)))
    rows = [f"{name}.mp4,{label}" for name, label in test.items()]
    (folder / "test/labels.csv").write_text("\n".join(["filename, label", *rows]) + "\n")
    return {
        "truncated": "bafake",
        "faceless": "bbfake",
        "absent": "bcfake",
        "shared": "shared",
        "test": test,
    }


def dfdc_preview(folder, frames=4):
    """The preview of DFDC: pairs of actors who are swapped by both methods.

    Returns:
      'people' of train and of test, and 'absent', a listed path of which there is no file.
    """
    people = {"train": range(10, 22), "test": range(90, 92)}
    content = {}
    for split, actors in people.items():
        for a in actors:
            b = a + 1 if a % 2 == 0 else a - 1
            about = {"set": split, "augmentations": []}
            real = f"original_videos/{a}/{a}_A_001.mp4"
            content[real] = {**about, "label": "real", "target_id": a, "swapped_id": None}
            for method in ("method_A", "method_B"):
                fake = f"{method}/{a}/{a}_A/{b}_{a}_A_001.mp4"
                content[fake] = {**about, "label": "fake", "target_id": a, "swapped_id": b}
    for path, about in content.items():
        write(folder / path, rendered(path, frames, fake=about["label"] == "fake"))
    absent = "method_B/10/10_A/11_10_A_001"
    (folder / f"{absent}.mp4").unlink()
    (folder / "dataset.json").write_text(json.dumps(content))
    return {"people": people, "absent": absent}


def deep_fake_detection(folder, frames=4, actors=12):
    """DeepFakeDetection at raw and c23: pairs of actors, and one fake of people of two pairs.

    Returns:
      (method, name): 'no_raw' and 'shorter' (at c23), and 'masked', a fake with a mask.
    """
    names = [f"{number:02d}" for number in range(1, actors + 1)]
    reals = [f"{a}__kitchen_pan" for a in names]
    fakes = [f"{a}_{b}__kitchen_pan__{a}{b}ABCD" for a, b in _swapped(names)]
    fakes.append("01_03__hugging_happy__WXYZ0103")
    shorter = reals[1]
    for quality in ("raw", "c23"):
        crf = trees.CRFS[quality]
        for real, stems in ((True, reals), (False, fakes)):
            parent = "original_sequences/actors" if real else _MANIPULATED
            for stem in stems:
                if stem == fakes[0] and quality == "raw":
                    continue
                less = stem == shorter and quality == "c23"
                data = rendered(stem[:2], frames, fake=not real, crf=crf)
                if less:
                    data = h264.encode(list(h264.decode(data))[:-1], crf=crf)
                write(folder / parent / quality / "videos" / f"{stem}.mp4", data)
    mask = folder / _MANIPULATED / f"masks/videos/{fakes[1]}.mp4"
    edge = trees.SIZE // 4
    write(mask, trees.mask(frames, trees.SIZE, (edge, edge, trees.SIZE - edge, trees.SIZE - edge)))
    return {
        "no_raw": ("DeepFakeDetection", fakes[0]),
        "shorter": ("original", shorter),
        "masked": ("DeepFakeDetection", fakes[1]),
        "between": ("DeepFakeDetection", fakes[-1]),
    }


_MANIPULATED = "manipulated_sequences/DeepFakeDetection"


def _swapped(names):
    """Each of a pair with the face of the other."""
    pairs = zip(names[::2], names[1::2], strict=True)
    return [pair for a, b in pairs for pair in ((a, b), (b, a))]


def celeb_df_pp(folder, frames=4, people=6):
    """Celeb-DF++: swaps, reenactments and talking faces, and a test list with all of them.

    Returns:
      'test', the official list as paths.
    """
    names = [f"id{i}" for i in range(people)]
    paths = [f"Celeb-real/{a}_{take:04d}" for a in names for take in range(2)]
    paths += [f"YouTube-real/{i:05d}" for i in range(6)]
    swaps = [f"{a}_{b}_0000" for a in names for b in names if a != b]
    for method in ("FaceSwap/Celeb-DF", "FaceSwap/BlendFace", "FaceReenact/LIA"):
        paths += [f"Celeb-synthesis/{method}/{swap}" for swap in swaps]
    paths += [f"Celeb-synthesis/TalkingFace/FLOAT/{a}_0000" for a in names]
    for path in paths:
        write(folder / f"{path}.mp4", rendered(path, frames, fake="synthesis" in path))
    test = [paths[0], paths[-1], "YouTube-real/00000"]
    test += [f"Celeb-synthesis/{m}/id1_id0_0000" for m in ("FaceSwap/BlendFace", "FaceReenact/LIA")]
    lines = [f"{int('synthesis' not in path)} {path}.mp4" for path in test]
    (folder / LIST).write_text("\n".join(lines) + "\n")
    return {"test": test}


def uadfv(folder, frames=4):
    """UADFV: three pairs, and a real video without its fake, which is returned as 'absent'."""
    for number in range(4):
        write(folder / f"real/{number:04d}.mp4", rendered(str(number), frames))
        if number < 3:
            path = folder / f"fake/{number:04d}_fake.mp4"
            write(path, rendered(str(number), frames, fake=True))
    return {"absent": "fake/0003"}


def deeper_forensics(folder, frames=4):
    """DeeperForensics-1.0: two variants, with the targets of FaceForensics++.

    Returns:
      'splits', the listed swaps; 'absent', one that is not there; and 'no_target', one whose target
      is not.
    """
    splits = {
        "train": ["000_M101", "001_M101", "002_W012"],
        "val": ["003_W014", "004_W014"],
        "test": ["005_M020", "006_M020"],
    }
    for split, names in splits.items():
        path = folder / f"lists/splits/{split}.txt"
        write(path, "".join(f"{name}.mp4\n" for name in names).encode())
        for name in names:
            for variant in ("end_to_end", "end_to_end_level_3"):
                path = folder / f"manipulated_videos/{variant}/{name}.mp4"
                write(path, rendered(name, frames, fake=True))
            path = folder / f"original_sequences/youtube/c23/videos/{name[:3]}.mp4"
            write(path, rendered(name, frames))
    (folder / "manipulated_videos/end_to_end/001_M101.mp4").unlink()
    (folder / "original_sequences/youtube/c23/videos/002.mp4").unlink()
    return {"splits": splits, "absent": "001_M101", "no_target": "002_W012"}
