"""Small copies of the official folder trees: true names, rendered videos, and what goes wrong.

Each function returns which of its videos is spoilt in which way. Few films are rendered, and each
is put under many names: the trees are made in seconds, and cheap to make again.
"""

import functools
import importlib.resources
import json

import cv2
import numpy as np

from data_builders import h264
from data_builders.synthetic_faces.builder import SyntheticVideo, film

SIZE = 288  # twice what is rendered: a detector of faces has a smallest size
CRFS = {"raw": 0, "c23": 23, "c40": 40}

_FILMS = 3
_METHOD = "inner_face_swap"


@functools.cache
def frames_of(target, count, fake=False, size=SIZE):
    """One of the rendered films, enlarged."""
    source = SyntheticVideo(11, count, _METHOD if fake else "original", target, target + 1)
    return [cv2.resize(f, (size, size), interpolation=cv2.INTER_CUBIC) for f in film(source)]


@functools.cache
def _encoded(target, count, fake, crf):
    return h264.encode(frames_of(target, count, fake), crf=crf)


@functools.cache
def noise(count, crf):
    """The bytes of a video that shows no face."""
    rng = np.random.default_rng(5)
    grey = rng.integers(96, 160, (count, SIZE, SIZE, 1), dtype=np.uint8)
    return h264.encode(np.repeat(grey, 3, axis=3), crf=crf)


def rendered(name, count, *, fake=False, crf=23):
    """The bytes of a video: a film for each name, taken in turn from the few there are."""
    return _encoded(sum(map(ord, str(name))) % _FILMS, count, fake, crf)


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def truncate(path):
    """Leaves what an interrupted download leaves."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def official_pairs(split, count):
    """The first pairs of an official split of FaceForensics++: 'train', 'val' or 'test'."""
    lists = importlib.resources.files("data_builders.face_forensics") / "splits"
    return json.loads((lists / f"{split}.json").read_text())[:count]


def face_forensics_path(folder, method, name, quality):
    """Where a video is; 'original' for the method of reals."""
    real = method == "original"
    parent = "original_sequences/youtube" if real else f"manipulated_sequences/{method}"
    return folder / parent / quality / "videos" / f"{name}.mp4"


def face_forensics_mask(folder, method, name):
    """Where the mask of a fake is."""
    return folder / f"manipulated_sequences/{method}/masks/videos/{name}.mp4"


def face_forensics(
    folder, *, methods=("NeuralTextures",), frames=6, pairs=(3, 2, 2), masks=(), qualities=CRFS
):
    """FaceForensics++ at raw, c23 and c40.

    Args:
      folder: Where it goes.
      methods: Names of methods, as on disk.
      frames: Of each video.
      pairs: How many official pairs of train, val and test.
      masks: The methods whose fakes have masks, but for 'unmasked'.
      qualities: Those on disk; nothing is truncated where raw is not among them.

    Returns:
      'splits': names by split and method; and as (method, name): 'no_c40', whose c40 is not there,
      'truncated', whose raw file is cut, 'shorter', with two frames less at c40, 'faceless',
      'absent', of which there is no file, 'unmasked'.
    """
    listed = {}
    for split, count in zip(("train", "val", "test"), pairs, strict=True):
        chosen = official_pairs(split, count)
        reals = [name for pair in chosen for name in pair]
        fakes = [name for a, b in chosen for name in (f"{a}_{b}", f"{b}_{a}")]
        listed["validation" if split == "val" else split] = {
            "original": reals,
            **dict.fromkeys(methods, fakes),
        }
    method, train = methods[0], listed["train"]
    spoilt = {
        "no_c40": (method, train[method][0]),
        "truncated": (method, train[method][1]),
        "faceless": (method, train[method][2]),
        "absent": (method, train[method][3]),
        "shorter": ("original", train["original"][0]),
        "unmasked": (method, listed["validation"][method][0]),
    }
    for kinds in listed.values():
        for kind, names in kinds.items():
            for name in names:
                which = (kind, name)
                if kind in masks and which != spoilt["unmasked"]:
                    edge = SIZE // 4
                    data = mask(frames, SIZE, (edge, edge, SIZE - edge, SIZE - edge))
                    write(face_forensics_mask(folder, kind, name), data)
                for quality in qualities:
                    crf = CRFS[quality]
                    if which == spoilt["absent"]:
                        continue
                    if which == spoilt["no_c40"] and quality == "c40":
                        continue
                    less = 2 * (which == spoilt["shorter"] and quality == "c40")
                    data = (
                        noise(frames, crf)
                        if which == spoilt["faceless"]
                        else rendered(name[:3], frames, fake=kind != "original", crf=crf)
                    )
                    if less:
                        data = h264.encode(list(h264.decode(data))[:-less], crf=crf)
                    write(face_forensics_path(folder, *which, quality), data)
    if "raw" in qualities:
        truncate(face_forensics_path(folder, *spoilt["truncated"], "raw"))
    return {"splits": listed, **spoilt}


def celeb_df_v2(folder, *, people=4, frames=6, youtube="YouTube-real", level=""):
    """Celeb-DF (v2): everyone's face on everyone's two recordings, and six videos of YouTube's.

    Args:
      folder: Where it goes.
      people: How many celebrities.
      frames: Of each video.
      youtube: How the third folder is spelt.
      level: A folder between these and the files.

    Returns:
      'test', the official list as (folder, name); and as (folder, name): 'truncated' and 'faceless'
      videos of YouTube's (the second in the test list), 'absent', which is listed but not there.
    """
    names = [f"id{i}" for i in range(people)]
    reals = [f"{a}_{take:04d}" for a in names for take in range(2)]
    fakes = [f"{a}_{b}_{take:04d}" for a in names for b in names if a != b for take in range(2)]
    strangers = [f"{i:05d}" for i in range(6)]
    contents = {"Celeb-real": reals, youtube: strangers, "Celeb-synthesis": fakes}
    test = [
        ("YouTube-real", strangers[0]),
        ("YouTube-real", strangers[1]),
        ("Celeb-real", reals[0]),
        ("Celeb-synthesis", fakes[0]),
        ("Celeb-synthesis", fakes[2]),
        ("Celeb-synthesis", "id9_id1_0000"),
    ]
    for kind, stems in contents.items():
        for stem in stems:
            path = folder / kind / level / f"{stem}.mp4"
            write(path, rendered(stem.split("_")[0], frames, fake=kind == "Celeb-synthesis"))
    write(folder / youtube / level / f"{strangers[1]}.mp4", noise(frames, 23))
    truncate(folder / youtube / level / f"{strangers[2]}.mp4")
    lines = [f"{int('real' in kind)} {kind}/{stem}.mp4" for kind, stem in test]
    (folder / "List_of_testing_videos.txt").write_text("\n".join(lines) + "\n")
    return {
        "test": test,
        "truncated": ("YouTube-real", strangers[2]),
        "faceless": test[1],
        "absent": test[-1],
    }


def ffiw10k(folder, *, frames=6, with_test=True):
    """FFIW10K: in the first video of train the smaller of two faces is swapped.

    Args:
      folder: Where it goes.
      frames: Of each video.
      with_test: Whether the archive of the test split is there.

    Returns:
      'splits': stems by split; and stems: 'two_faces', 'truncated' (the fake), 'faceless' (both),
      'unmasked', and 'absent', of which there is no fake; 'small' is where the smaller face is: x0,
      y0, x1, y1.
    """
    stems = {"train": ["0000", "0001", "0002", "0003", "0004", "0005"], "val": ["6000", "6001"]}
    parents = dict.fromkeys(stems, folder / "FFIW10K-v1-release")
    if with_test:
        stems["test"] = ["7000", "7001"]
        parents["test"] = folder / "FFIW10K-v1-release-test"
    spoilt = dict(
        zip(
            ("two_faces", "truncated", "faceless", "unmasked", "absent"),
            stems["train"],
            strict=False,
        )
    )
    small = SIZE + 60, 60, SIZE + 60 + SIZE * 2 // 3, 60 + SIZE * 2 // 3
    for split, names in stems.items():
        for i, stem in enumerate(names):
            for kind in ("source", "target", "target_mask"):
                suffix = "_mask" if kind == "target_mask" and i % 2 else ""
                path = parents[split] / kind / split / f"{stem}{suffix}.mp4"
                if stem == spoilt["two_faces"]:
                    write(path, two_faces(frames, kind, small))
                elif kind == "target_mask":
                    if stem != spoilt["unmasked"]:
                        edge = SIZE // 4
                        write(path, mask(frames, SIZE, (edge, edge, SIZE - edge, SIZE - edge)))
                elif stem == spoilt["faceless"]:
                    write(path, noise(frames, 23))
                elif (kind, stem) != ("target", spoilt["absent"]):
                    write(path, rendered(stem, frames, fake=kind == "target"))
    truncate(parents["train"] / "target" / "train" / f"{spoilt['truncated']}.mp4")
    splits = {"validation" if name == "val" else name: found for name, found in stems.items()}
    return {"splits": splits, **spoilt, "small": small}


@functools.cache
def mask(frames, width, box):
    """The bytes of a mask that is white in a box: x0, y0, x1, y1."""
    picture = np.zeros((SIZE, width, 3), np.uint8)
    left, top, right, bottom = box
    picture[top:bottom, left:right] = 255
    return h264.encode([picture] * frames, crf=23)


@functools.cache
def two_faces(frames, kind, small):
    """The bytes of FFIW10K's video of a 'source' or 'target', or its mask, with a second face.

    Args:
      frames: How many.
      kind: In a target, the smaller face is swapped; a 'target_mask' is white there.
      small: Where that is: x0, y0, x1, y1. The larger face fills the left half.
    """
    left, top, right, bottom = small
    if kind == "target_mask":
        edge = (right - left) // 5
        return mask(frames, 2 * SIZE, (left + edge, top + edge, right - edge, bottom - edge))
    pictures = []
    larger, smaller = (
        frames_of(0, frames),
        frames_of(1, frames, kind == "target", right - left),
    )
    for first, second in zip(larger, smaller, strict=True):
        picture = np.full((SIZE, 2 * SIZE, 3), 70, np.uint8)
        picture[:, :SIZE] = first
        picture[top:bottom, left:right] = second
        pictures.append(picture)
    return h264.encode(pictures, crf=23)
