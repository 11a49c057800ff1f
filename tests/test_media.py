"""What `detect` opens: what is no file, takes too long or too much, and when a frame is shown."""

import os
import re
import socket
import struct
import threading
import types
import warnings
import zlib
from fractions import Fraction

import av
import numpy as np
import PIL.Image
import pytest

from data_builders import clips, h264, images
from data_builders.errors import UserError
from data_builders.images import FORMATS, read_image
from qad_jax.detection import animation, command, media
from qad_jax.detection.detector import Detector
from qad_jax.weights import model_file
from tests import trees
from tests.commands import call
from tests.conftest import ROOT
from tests.image_files import chunk, png
from tests.test_detection import by_colour, film, filmed, model

# What has the name of a file, and is none.


@pytest.fixture
def pipe(tmp_path):
    """A pipe into which somebody writes nothing, again and again: whoever reads it gets an end.

    Without that, a reader would wait for ever, and the test with it.
    """
    path = tmp_path / "pipe.mp4"
    os.mkfifo(path)
    over = threading.Event()

    def write():
        while not over.is_set():
            os.close(os.open(path, os.O_WRONLY))

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    yield path
    over.set()
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer.join()
    os.close(reader)


@pytest.fixture
def no_files(pipe, tmp_path, monkeypatch):
    """Each kind of what is no file by its name, links among them."""
    monkeypatch.chdir(tmp_path)  # the name of a socket has a hundred characters at the most
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket.png")
        os.symlink("/dev/null", "device.jpg")
        os.symlink("socket.png", "link.mov")
        os.mkdir("folder.mkv")
        yield {
            "pipe.mp4": "a pipe",
            "socket.png": "a socket",
            "device.jpg": "a device",
            "link.mov": "a socket",
            "folder.mkv": "a folder",
        }


def test_what_is_no_file_is_an_error_of_one_line(no_files, tmp_path, monkeypatch):
    detector = Detector(model(), frames=2)
    detector.__dict__["_score"] = by_colour
    for name, kind in no_files.items():
        verdict = detector(name)
        assert verdict.verdict == "error"
        assert verdict.reason.startswith(f"{name}: is {kind} and no file; ")
    film(tmp_path / "b.mp4", filmed(2))
    monkeypatch.setattr(Detector, "from_pretrained", lambda model, frames: detector)
    result = call(tmp_path, "--csv", main=command.main)
    assert result.status == 3
    told = [line.split(",") for line in result.out.splitlines()[1:]]
    names = ["b.mp4", "device.jpg", "link.mov", "pipe.mp4", "socket.png"]  # a folder is gone into
    assert [line[0] for line in told] == [str(tmp_path / name) for name in names]
    assert [line[2] for line in told] == ["real", *["error"] * 4]


def test_no_reader_of_the_builders_waits_for_it(no_files, tmp_path):
    for name, kind in no_files.items():
        for read in (h264.probe, h264.count, read_image, model_file.is_one, model_file.describe):
            with pytest.raises(UserError, match=f"{name}: .*{kind} and no file"):
                read(tmp_path / name)


# When a frame is shown.


def timed(path, times, *, form=None, clock=1000, **options):
    """A video of small frames, each shown at its time in seconds, on a clock of so many ticks."""
    with av.open(str(path), "w", format=form) as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, clock)
        stream.options = {"preset": "ultrafast", "threads": "1", **options}
        for number, at in enumerate(times):
            image = np.full((48, 64, 3), 2 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(at * clock), Fraction(1, clock)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("form", ["mp4", "matroska", "mpegts"])
def test_the_times_of_a_rate_that_varies(tmp_path, form):
    """20 frames at 25 a second, then 20 at 2. A transport stream does not begin at 0."""
    times = [i * 0.04 for i in range(20)] + [0.8 + i * 0.5 for i in range(20)]
    read = media.read(timed(tmp_path / "a", times, form=form), 5)
    assert read.indices == tuple(clips.spread(40, 5))
    assert read.times == pytest.approx([times[index] for index in read.indices], abs=2e-3)


def test_a_download_that_stopped_is_told(tmp_path):
    """A Matroska file says at its start how long it lasts, and is read to wherever it ends."""
    whole = timed(tmp_path / "a.mkv", [i * 0.04 for i in range(50)], form="matroska", g="5")
    assert media.read(whole, 3).facts.notes == ()
    trees.truncate(whole)
    with av.open(str(whole)) as file:
        left = [frame.time for frame in file.decode(video=0)]
    assert 1 < len(left) < 40
    for wanted in (1, 2, 3, 99):  # decoding stops earlier, the fewer frames are wanted
        cut = media.read(whole, wanted).facts
        assert cut.frames == len(left)
        ends = f"its frames end after {left[-1]:.2f} s, and it says that it lasts 2.00 s: "
        assert cut.notes == (ends + "it may not be complete",)


@pytest.mark.parametrize("form", ["mp4", "matroska", "mpegts", "avi"])
@pytest.mark.parametrize("wanted", [1, 2, 5])
def test_a_whole_video_is_called_whole_where_few_frames_are_wanted(tmp_path, form, wanted):
    """Also where the last frames are shown longest, and where some look ahead."""
    times = [i * 0.04 for i in range(100)]
    if form not in ("avi", "mpegts"):  # they say nothing of how long their frames are shown
        times += [4 + i * 0.5 for i in range(12)]
    path = timed(tmp_path / "a", times, form=form, clock=1000 if form != "avi" else 25, bf="2")
    read = media.read(path, wanted)
    assert read.facts.duration == pytest.approx(times[-1], abs=1)
    assert read.facts.notes == ()


def test_a_sound_that_goes_on_is_told_however_few_frames_are_wanted(tmp_path):
    """A whole index and a second of frames, in a file that lasts four."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound = file.add_stream("aac", rate=16000)
        for number in range(25):
            image = np.full((48, 64, 3), 4 * number, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 64000), np.float32), "fltp", "mono")
        heard.sample_rate = 16000
        file.mux(sound.encode(heard))
        file.mux(sound.encode(None))
    for wanted in (1, 2, 25):
        (note,) = media.read(path, wanted).facts.notes
        assert note.startswith("its frames end after 0.96 s, and it says that it lasts 4.0")


@pytest.mark.parametrize(("form", "rate"), [("avi", 25), ("h264", 25), ("avi", 2000)])
def test_files_without_times_have_frames_at_one_rate(tmp_path, form, rate):
    """AVI has the order in which frames are stored, which is another where some look ahead."""
    path = timed(tmp_path / "a", [i / 25 for i in range(12)], form=form, clock=25, bf="2")
    data = bytearray(path.read_bytes())
    if rate != 25:  # its own encoder writes none that no camera has
        struct.pack_into("<L", data, data.index(b"vids") + 24, rate)
        path.write_bytes(data)
    with av.open(str(path)) as file:
        stored = [frame.time for frame in file.decode(video=0)]
    assert stored[0] is None or stored != sorted(stored)
    read = media.read(path, 4)
    assert read.times == pytest.approx([index / 25 for index in read.indices])
    assumed = "says neither times nor a rate of its frames: 25 a second are assumed"
    said = (25, ()) if rate == 25 else (None, (assumed,))
    assert (read.facts.rate, read.facts.notes) == said


def test_a_rate_that_is_not_said_is_not_told(tmp_path):
    """A day between two frames: no camera has so low a rate, but the times are told."""
    times = [0, 0.04, 0.08, 86400]
    read = media.read(timed(tmp_path / "a.mp4", times), 4)
    assert (read.facts.rate, read.facts.notes) == (None, ())
    assert read.facts.duration == pytest.approx(86400, abs=1)
    assert read.times == pytest.approx(times)


# The time that reading may take.


@pytest.fixture
def clock(monkeypatch):
    """A second goes by whenever somebody looks at the clock; how often they did is its length."""
    looks = []

    def monotonic():
        looks.append(None)
        return float(len(looks))

    monkeypatch.setattr(media, "time", types.SimpleNamespace(monotonic=monotonic))
    return looks


def test_the_time_runs_while_frames_are_counted(tmp_path, clock, monkeypatch):
    """A transport stream has no index: all of it is decoded before the first frame is taken."""
    path = timed(tmp_path / "a.ts", [i / 25 for i in range(40)], form="mpegts")
    monkeypatch.delattr(h264, "sampled")
    with pytest.raises(UserError, match=r"a\.ts: takes more than 30 s to decode; cut it"):
        media.read(path, 4, max_seconds=30)
    assert len(clock) == 32


def test_the_time_runs_while_frames_are_taken(tmp_path, clock):
    path, told = timed(tmp_path / "a.mp4", [i / 25 for i in range(40)]), []
    with pytest.raises(UserError, match=r"a\.mp4: takes more than 30 s to decode; cut it"):
        media.read(path, 4, max_seconds=30, tell=lambda *of: told.append(of))
    assert told[0] == (1, 40)
    assert 10 < len(told) < 30
    assert len(clock) == 32


def gif(path, *frames, screen=(1, 1)):
    """Writes a GIF file by hand, of frames that are black; each is told by its width and height."""
    colours = bytes(3) + b"\xff" * 3
    header = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + colours
    black = b"\x02\x02\x44\x01\x00"  # the codes of one pixel
    images = (b"," + struct.pack("<HHHHB", 0, 0, *size, 0) + black for size in frames)
    path.write_bytes(header + b"".join(images) + b";")
    return path


def animated(path, count=12, **options):
    images = [PIL.Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)) for i in range(count)]
    images[0].save(path, save_all=True, append_images=images[1:], **options)
    return path


def test_the_time_runs_while_the_frames_of_a_gif_are_counted(tmp_path, clock, monkeypatch):
    """It has no number of frames: a small file has many thousands."""
    monkeypatch.delattr(animation, "_check_pixels")
    path = gif(tmp_path / "a.gif", *[(1, 1)] * 1000)
    with pytest.raises(UserError, match=r"a\.gif: takes more than 500 s to decode; cut it"):
        media.read(path, 4, max_seconds=500)
    assert len(clock) == 502


def test_the_time_runs_while_an_animation_is_decoded(tmp_path, clock):
    """Nothing is read of a WebP file while it is decoded: all of it was read before."""
    path = animated(tmp_path / "a.webp", lossless=True)
    assert len(media.read(path, 4, max_seconds=60).frames) == 4
    del clock[:]
    with pytest.raises(UserError, match=r"a\.webp: takes more than 10 s to decode; cut it"):
        media.read(path, 4, max_seconds=10)


# The pixels of an animation.


@pytest.mark.parametrize(
    ("screen", "frames", "reason"),
    [
        ((6001, 6000), 2, "a frame may have 36,000,000; make it smaller"),
        ((5000, 5000), 41, "its 41 frames together may have 1,000,000,000; make it smaller"),
        ((4000, 4000), 62, "the 32 frames that are looked at together may have 500,000,000; make"),
    ],
)
def test_an_animation_of_too_many_pixels_is_refused(tmp_path, monkeypatch, screen, frames, reason):
    """Before any is decoded, whatever its file is worth: here some hundred bytes."""
    monkeypatch.delattr(PIL.Image.Image, "convert")
    path = gif(tmp_path / "a.gif", *[(1, 1)] * frames, screen=screen)
    with pytest.raises(UserError) as error:
        media.read(path, 32)
    assert str(error.value).startswith(f"{path}: an animation of {screen[0]}x{screen[1]} pixels, ")
    assert reason in str(error.value)


def test_a_frame_of_an_animation_does_not_make_it_larger(tmp_path):
    """It would pass all bounds, and no network takes frames of several sizes together."""
    path = gif(tmp_path / "a.gif", (1, 1), (1, 1), (1, 3))
    with pytest.raises(UserError, match=r"a\.gif: frame 2 reaches beyond the 1x1 pixels"):
        media.read(path, 4)


@pytest.mark.parametrize("form", ["webp", "gif", "png"])
def test_the_times_of_an_animation(tmp_path, form):
    """Also where frames are left out, and each is shown for another time."""
    lasts = [20 + 10 * i for i in range(12)]
    path = animated(tmp_path / f"a.{form}", duration=lasts)
    read = media.read(path, 3)
    assert read.indices == (2, 6, 10)
    assert read.times == pytest.approx([sum(lasts[:index]) / 1000 for index in (2, 6, 10)])


def apng(path, frames, *, colour, default, before=b"", over=True):
    """Writes an APNG file by its specification, whose default image is not in the animation.

    Args:
      path: The file.
      frames: Place (x, y), pixels and milliseconds of each.
      colour: The colour type.
      default: Pixels of the default image.
      before: Chunks that come before it.
      over: Frames are laid over those before, and do not replace what is there.
    """
    control, chunks = struct.pack(">II", len(frames), 0), []
    for number, ((x, y), pixels, lasts) in enumerate(frames):
        height, width = pixels.shape[:2]
        shown = struct.pack(">5IHHBB", 2 * number, width, height, x, y, lasts, 1000, 0, over)
        rows = b"".join(b"\0" + row.tobytes() for row in pixels)
        data = struct.pack(">I", 2 * number + 1) + zlib.compress(rows)
        chunks += [chunk(b"fcTL", shown), chunk(b"fdAT", data)]
    still = png(default, colour=colour, before=chunk(b"acTL", control) + before)
    end = chunk(b"IEND")
    path.write_bytes(still.removesuffix(end) + b"".join(chunks) + end)
    return path


@pytest.mark.parametrize("wanted", [2, 8])
def test_a_default_image_that_no_player_shows_is_left_out(tmp_path, wanted):
    """Only programs that do not know APNG show it."""
    frames = [((0, 0), np.full((6, 8, 3), 10 * i, np.uint8), 100 + i) for i in range(4)]
    default = np.full((6, 8, 3), 255, np.uint8)
    read = media.read(apng(tmp_path / "a.png", frames, colour=2, default=default), wanted)
    assert (read.facts.kind, read.facts.frames) == (media.ANIMATION, 4)
    assert read.indices == tuple(clips.spread(4, wanted))
    begins = [0, 0.1, 0.201, 0.303]
    assert read.times == pytest.approx([begins[index] for index in read.indices])
    assert [frame.max() for frame in read.frames] == [10 * index for index in read.indices]


def test_a_default_image_of_an_animation_that_it_begins_is_a_frame(tmp_path):
    read = media.read(animated(tmp_path / "a.png", 3, duration=100), 8)
    assert (read.facts.frames, read.times) == (3, pytest.approx((0, 0.1, 0.2)))
    assert [frame.max() for frame in read.frames] == [0, 20, 40]


@pytest.mark.parametrize("over", [True, False])
@pytest.mark.parametrize("colour", [0, 2, 3, 4, 6])
def test_no_frame_lies_on_the_default_image(tmp_path, colour, over):
    """An animation begins on nothing, which is white here, and its first frame may be a part."""
    shape = {0: (), 2: (3,), 3: (), 4: (2,), 6: (4,)}[colour]
    palette = chunk(b"PLTE", bytes([0, 0, 0, 255, 255, 255, 90, 90, 90]))
    part = np.full((2, 3, *shape), 2 if colour == 3 else 90, np.uint8)
    if colour in (4, 6):
        part[..., -1] = 255
    default = np.zeros((6, 8, *shape), np.uint8)
    if colour in (4, 6):
        default[..., -1] = 255
    before = palette if colour == 3 else b""
    path = tmp_path / "a.png"
    apng(path, [((4, 1), part, 50)], colour=colour, default=default, before=before, over=over)
    (frame,) = media.read(path, 8).frames
    expected = np.full((6, 8, 3), 255)
    expected[1:3, 4:7] = 90
    np.testing.assert_array_equal(frame, expected)


# Images.


def test_a_large_image_is_opened_without_a_warning_in_formats_that_are_known(tmp_path, monkeypatch):
    """Pillow warns of images from 89 megapixels on; up to 100 are read."""
    opened, real = [], PIL.Image.open

    def spy(*arguments, **options):
        opened.append(options.get("formats"))
        return real(*arguments, **options)

    monkeypatch.setattr(PIL.Image, "open", spy)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1000)
    path = tmp_path / "a.png"
    PIL.Image.fromarray(np.full((30, 40, 3), 9, np.uint8)).save(path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        read = media.read(path, 4)
    assert told == []
    assert (read.facts.kind, read.facts.codec) == (media.IMAGE, "PNG")
    assert (read.facts.width, read.facts.height) == (40, 30)
    assert opened == [FORMATS, FORMATS]  # once to see what it is, and once to read it


def test_a_gif_whose_comment_would_take_minutes_is_not_opened(tmp_path, monkeypatch):
    path = tmp_path / "long.gif"
    PIL.Image.new("L", (8, 8)).save(path, comment=b"a" * 2000)
    assert media.read(path, 1).facts.codec == "GIF"
    monkeypatch.setattr(images, "_MAX_GIF_BYTES", 2**10)
    monkeypatch.setattr(PIL.Image, "open", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(UserError, match=r"long\.gif: .*a GIF larger than"):
        media.read(path, 1)


@pytest.mark.checkout
def test_the_page_names_what_is_looked_for_in_folders(tmp_path):
    """All of the names that it lists, and no others; a picture of the newest of them is read."""
    page = (ROOT / "docs/verdicts.md").read_text()
    _, _, told = page.partition("files are judged whose names end as those of")
    named = re.findall(r"`(\.\w+)`", told.partition("Files whose names begin")[0])
    assert sorted(named) == sorted(media.SUFFIXES)
    rows, columns = np.mgrid[:48, :64].astype(np.uint8)
    shown = np.stack([rows, columns, rows + columns], axis=2)
    PIL.Image.fromarray(shown).save(tmp_path / "a.avif", quality=95)
    (frame,) = media.read(tmp_path / "a.avif", 8).frames
    assert np.abs(frame.astype(int) - shown).mean() < 3
