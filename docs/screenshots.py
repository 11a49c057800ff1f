"""Writes the images of the pages that the documentation shows: `python docs/screenshots.py [OUT]`.

The face is the public-domain astronaut, whose photograph is moved a little. In the fakes her face
is laid over itself, duller and a little off: in all of one clip, and more and more in another.
The detector is that of the package, and the browser a Chromium that is installed.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from data_builders import h264  # noqa: E402
from qad_jax.detection.server import app  # noqa: E402
from qad_jax.detection.server.settings import Settings  # noqa: E402
from tests import browser, trees  # noqa: E402

_FRAMES, _SIZE = 96, (320, 240)
_COLOURS = 200
Frame = npt.NDArray[np.uint8]


def _frame(i: int) -> Frame:
    """The photograph, held not quite still."""
    turn = np.sin(2 * np.pi * i / _FRAMES)
    scale = 1.35 + 0.05 * np.cos(3 * np.pi * i / _FRAMES)
    moved = cv2.getRotationMatrix2D((220, 120), 2.5 * turn, scale)
    moved[:, 2] += 6 * turn - 70, 20
    image = skimage.data.astronaut()
    return np.uint8(cv2.warpAffine(image, moved, _SIZE, flags=cv2.INTER_CUBIC))


def _forged(frame: Frame, i: int, strength: float) -> Frame:
    """The inner part of the face again, over itself."""
    x, y = 150 + 6 * np.sin(2 * np.pi * i / _FRAMES), 140
    mask = np.zeros(frame.shape[:2], np.float32)
    cv2.ellipse(mask, (int(x), y + 10), (38, 52), 0, 0, 360, 1, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 4)[..., None]
    moved = cv2.getRotationMatrix2D((x, y), -3, 1 + 0.08 * strength)
    moved[:, 2] += 3 * strength, 2 * strength
    over = cv2.warpAffine(frame, moved, _SIZE, flags=cv2.INTER_CUBIC)
    small = tuple(int(side / (1 + 1.2 * strength)) for side in _SIZE)
    over = cv2.resize(cv2.resize(over, small, interpolation=cv2.INTER_AREA), _SIZE)
    over = over * (1 + strength * np.array([0.06, -0.02, -0.06]))
    return np.uint8(np.clip(frame * (1 - mask) + over * mask, 0, 255))


def _clips(folder: Path) -> list[Path]:
    frames = [_frame(i) for i in range(_FRAMES)]
    made = {
        "astronaut": frames,
        "astronaut_fake": [_forged(frame, i, 1.2) for i, frame in enumerate(frames)],
        "astronaut_partly": [_forged(frame, i, i / _FRAMES) for i, frame in enumerate(frames)],
    }
    for name, clip in made.items():
        trees.write(folder / f"{name}.mp4", h264.encode(clip, crf=18, fps=25))
    (folder / "notes.mp4").write_text("This is no video.")
    return sorted(folder.glob("*.mp4"))


def _keep(path: Path, screenshot: bytes) -> None:
    """Writes a screenshot with few colours, in a quarter of the bytes."""
    image = Image.open(io.BytesIO(screenshot)).convert("RGB")
    image.quantize(_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path, path.stat().st_size)


def _judged(chromium: Any, address: str, clips: list[Path], **options: Any) -> Any:
    """A tab in which the clips are judged, and the one that is all fake is shown."""
    tab = chromium.new_page(**options)
    tab.set_default_timeout(browser.PATIENCE)
    tab.goto(address)
    browser.ready(tab)
    tab.set_input_files("#picker", clips)
    browser.judged(tab, *(path.name for path in clips[:3]))
    _show(tab, clips[1])
    return tab


def _show(tab: Any, clip: Path) -> None:
    tab.get_by_role("button", name=clip.name, exact=True).press("Enter")
    browser.shown(tab)
    tab.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    tab.wait_for_timeout(1000)  # the frame grows to what it shows


def main(out: Path) -> None:
    """Makes the clips, has them judged, and writes the images."""
    av.logging.set_level(av.logging.PANIC)
    with tempfile.TemporaryDirectory() as name, browser.browser() as chromium:
        clips = _clips(Path(name))
        settings = Settings(folder=Path(name))
        with browser.served(app.create(settings), settings) as address:
            size = {"width": 1000, "height": 1120}
            tab = _judged(chromium, address, clips, viewport=size)
            _keep(out / "service.png", tab.screenshot())
            _show(tab, clips[2])
            face = tab.frame_locator("#page").locator(".face").first
            face.locator(".walk .strip").nth(12).click()
            tab.mouse.move(1, 1)
            _keep(out / "timeline.png", face.screenshot())
            phone = {"width": 320, "height": 1120}
            tab = _judged(chromium, address, clips, viewport=phone, color_scheme="dark")
            _keep(out / "service_phone.png", tab.screenshot())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs")
