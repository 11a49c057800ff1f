"""Writes mtcnn_reference.npz: the faces that the `mtcnn` package finds, where it runs.

The package needs TensorFlow, the tests do not. In an environment with this project and its test
extra:

    pip install mtcnn==1.0.0 tensorflow-cpu
    python tests/data/make_mtcnn_fixtures.py

Keys of the file:

    rendered      uint8 (3, H, W, 3): frames of synthetic_faces, kept so that its people may change
    CASE          float32 (k, 5): x0, y0, x1, y1, score of the faces in `pictures(rendered)[CASE]`,
                  the surest first
"""

import pathlib

import cv2
import numpy as np
import skimage.data


def resized(picture, factor):
    """Area averages when it shrinks, cubic when it grows."""
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=how)


def group():
    """One public-domain face at five sizes, in one picture of odd width and height."""
    face = skimage.data.astronaut()[10:230, 110:330]
    picture = np.full((403, 581, 3), 96, np.uint8)
    for factor, x, y in (
        (1, 5, 20),
        (0.6, 240, 10),
        (0.45, 400, 3),
        (0.3, 250, 170),
        (0.8, 385, 210),
    ):
        small = resized(face, factor)
        picture[y : y + len(small), x : x + small.shape[1]] = small
    return picture


def pictures(rendered):
    """The pictures that are compared, by name.

    Args:
      rendered: Frames of synthetic_faces.

    Returns:
      uint8 RGB pictures.
    """
    astronaut = skimage.data.astronaut()
    half = resized(astronaut, 0.5)
    border = np.full_like(half, 96)
    border[:211, :151] = half[45:, 105:]
    cases = {
        "astronaut": astronaut,
        "astronaut_half": half,
        "astronaut_quarter": resized(astronaut, 0.25),
        "astronaut_odd": astronaut[3:400, 1:366],
        "astronaut_mirrored": np.ascontiguousarray(half[:, ::-1]),
        "astronaut_at_the_border": border,
        "group": group(),
        "grey": np.full((120, 160, 3), 96, np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (120, 161, 3), np.uint8),
    }
    for i, frame in enumerate(rendered):
        cases[f"rendered_{i}_2x"] = resized(frame, 2)
        cases[f"rendered_{i}_3x"] = resized(frame, 3)
    return cases


def main():
    """Writes the file beside this one."""
    from mtcnn import MTCNN

    from data_builders.synthetic_faces import builder

    rendered = np.stack(
        [builder.film(builder.SyntheticVideo(7, 1, builder.REAL, i, i + 1))[0] for i in range(3)]
    )
    reference = MTCNN()
    arrays = {"rendered": rendered}
    for name, picture in pictures(rendered).items():
        found = reference.detect_faces([picture], box_format="xyxy", output_type="numpy")
        arrays[name] = found[np.argsort(-found[:, 5]), 1:6].astype(np.float32)
        print(name, picture.shape, len(found), np.round(arrays[name], 2).tolist())
    path = pathlib.Path(__file__).with_name("mtcnn_reference.npz")
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
