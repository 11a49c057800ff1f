"""Videos as people have them: stored sideways, cut, with a cover, in parts, of unknown codecs."""

import pickle
from fractions import Fraction

import av
import numpy as np
import pytest

from data_builders import clips, faces, h264, paired, video_builder
from data_builders.errors import UnusableClipError, UserError
from data_builders.manifest import reader
from data_builders.video_builder import VideoDatasetBuilder
from tests import trees
from tests.test_h264 import with_index_first

COUNT = 12


@pytest.fixture(scope="module")
def shown():
    """A face that is no square, so that no turn of it looks like another."""
    return [frame[:120, :96].copy() for frame in trees.frames_of(0, COUNT, size=144)]


def written(
    path, frames, prepare=lambda stream: None, *, form="mp4", codec="libx264rgb", **options
):
    """Encodes without loss after `prepare` has changed the stream."""
    with av.open(str(path), "w", format=form, **options.pop("container", {})) as file:
        stream = file.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "rgb24" if codec == "libx264rgb" else "yuv420p"
        stream.options = {"crf": "0", "threads": "1", "preset": "ultrafast", **options}
        prepare(stream)
        for frame in frames:
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            file.mux(stream.encode(image))
        file.mux(stream.encode(None))
    return path


def copied(source, path, keep, *, shift=0):
    """Copies packets without decoding, those that `keep` takes, earlier by `shift` frames."""
    with av.open(str(source)) as old, av.open(str(path), "w", format="mp4") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.dts is not None and keep(number, packet):
                ticks = round(shift / (25 * packet.time_base))
                packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
                packet.stream = stream
                new.mux(packet)
    return path


def clip(path, wanted=4, **files):
    """The clip of a video, of the whole frame."""
    video = clips.VideoFiles("original", "071", "071", "real", {"raw": path, **files})
    recipe = clips.Recipe(("raw", *files), wanted, faces.Whole())
    return clips.read(clips.ClipSource(video, recipe))


def refused(path, reason):
    for read in (h264.probe, lambda p: list(h264.decode(p)), clip):
        with pytest.raises(h264.BrokenVideoError, match=reason) as error:
            read(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize(("hflip", "vflip"), [(False, False), (True, False), (False, True)])
def test_the_display_matrix_is_obeyed(shown, tmp_path, turns, hflip, vflip):
    def stored(frame):
        frame = frame[:: -1 if vflip else 1, :: -1 if hflip else 1]
        return np.rot90(frame, -turns)

    path = written(
        tmp_path / "a.mp4",
        list(map(stored, shown)),
        lambda stream: stream.set_display_rotation(90 * turns, hflip=hflip, vflip=vflip),
    )
    np.testing.assert_array_equal(list(h264.decode(path)), shown)
    facts = h264.probe(path)
    assert facts.frames == COUNT
    assert bool(facts.notes) == bool(turns or hflip or vflip)
    upright = written(tmp_path / "upright.mp4", shown)
    np.testing.assert_array_equal(clip(path).crops["raw"], clip(upright).crops["raw"])


def test_a_matrix_of_nothing_turns_nothing(shown, tmp_path):
    path = written(tmp_path / "a.mp4", shown, lambda stream: stream.set_display_matrix([0] * 9))
    np.testing.assert_array_equal(list(h264.decode(path)), shown)


@pytest.mark.parametrize("encoding", ["shift_jis", "latin-1"])
def test_titles_in_any_encoding(shown, tmp_path, encoding):
    path = tmp_path / "a.mp4"
    title = {"shift_jis": "日本語の題名", "latin-1": "Père Noël"}[encoding]
    stored = title.encode(encoding)
    # PyAV 19 has no setting for this: it writes the bytes behind surrogates as they are.
    behind = {"metadata_errors": "surrogateescape"} if av.__version__ < "19" else {}
    with av.open(str(path), "w", **behind) as file:
        file.metadata["title"] = stored.decode("utf-8", "surrogateescape")
        stream = file.add_stream("libx264", rate=25)
        stream.height, stream.width = shown[0].shape[:2]
        for frame in shown:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode(None))
    assert stored in path.read_bytes()
    with pytest.raises(UnicodeDecodeError):
        stored.decode("utf-8")
    assert len(list(h264.decode(path))) == h264.probe(path).frames == COUNT


def test_an_edit_list_is_no_cut_and_a_cut_is_no_edit_list(shown, tmp_path):
    whole = written(tmp_path / "whole.mp4", shown, g="100")
    path = copied(whole, tmp_path / "a.mp4", lambda *_: True, shift=5)
    with av.open(str(path)) as file:
        assert file.streams.video[0].frames == COUNT
    np.testing.assert_array_equal(list(h264.decode(path)), shown[5:])
    assert h264.probe(path).frames == COUNT - 5
    assert "edit list" in h264.probe(path).notes[0]
    assert clip(path, 7).frames == list(range(COUNT - 5))
    first = tmp_path / "first.mp4"
    with_index_first(path.read_bytes(), first)
    assert h264.probe(first).frames == COUNT - 5
    first.write_bytes(first.read_bytes()[:-20])  # the last frame, which is often not asked for
    refused(first, rf"ends after {COUNT - 1} of {COUNT} frames; fetch the video again")


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_file_that_begins_in_the_middle(shown, tmp_path, codec):
    """Cut at a key frame of an open group: the frames before it need those that were cut off."""
    many = shown * 3
    groups = "open-gop=1:keyint=8:min-keyint=8:bframes=3:scenecut=0:b-adapt=0:log-level=error"
    names = {"x264-params": groups} if codec == "libx264" else {"x265-params": groups}
    whole = written(tmp_path / "whole.mp4", many, codec=codec, preset="medium", crf="20", **names)
    keys = []
    with av.open(str(whole)) as file:
        for number, packet in enumerate(file.demux(video=0)):
            if packet.is_keyframe:
                keys.append(number)
    path = copied(whole, tmp_path / "a.mp4", lambda number, _: number >= keys[1])
    decoded = len(list(h264.decode(path)))
    with av.open(str(path)) as file:
        listed = file.streams.video[0].frames
    assert h264.probe(path).frames == decoded < listed
    assert clip(path, 100).frames == list(range(decoded))


def test_the_frames_that_decode_count_where_the_index_says_more(shown, tmp_path, monkeypatch):
    path = written(tmp_path / "a.mp4", shown)
    probe = h264.probe
    monkeypatch.setattr(h264, "probe", lambda p: probe(p)._replace(frames=COUNT + 9))
    assert clip(path).frames == clips.spread(COUNT, 4)


@pytest.mark.parametrize("form", ["matroska", "mpegts", "avi", "h264"])
def test_other_containers(shown, tmp_path, form):
    path = written(tmp_path / "a.mp4", shown, form=form, codec="libx264")
    assert h264.probe(path).frames == len(list(h264.decode(path))) == COUNT


@pytest.mark.parametrize(("height", "width"), [(60, 48), (240, 192), (96, 120)])
def test_a_size_that_changes_on_the_way(shown, tmp_path, height, width):
    other = [frame[:height, :width] for frame in trees.frames_of(1, COUNT)]
    path = tmp_path / "a.mp4"
    parts = [
        written(tmp_path / f"{i}.h264", part, form="h264", codec="libx264").read_bytes()
        for i, part in enumerate([shown, other])
    ]
    path.write_bytes(b"".join(parts))
    if width < height:
        assert {frame.shape for frame in h264.decode(path)} == {(120, 96, 3)}
        assert clip(path).crops["raw"][-1].shape == (120, 96, 3)
    else:
        with pytest.raises(h264.BrokenVideoError, match=r"a\.mp4: frame 12 has 120x96 .*96x120"):
            list(h264.decode(path))


@pytest.mark.parametrize(
    ("ratio", "size"), [((16, 11), (120, 140)), ((8, 9), (135, 96)), ((100, 101), (120, 96))]
)
def test_pixels_are_made_square(shown, tmp_path, ratio, size):
    def stretch(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(*ratio)

    path = written(tmp_path / "a.mp4", shown, stretch)
    assert {frame.shape[:2] for frame in h264.decode(path)} == {size}
    assert bool(h264.probe(path).notes) == (size != (120, 96))


def test_a_cover_is_no_video(shown, tmp_path):
    path, cover = tmp_path / "a.mp4", tmp_path / "cover.mp4"
    film = written(tmp_path / "film.mp4", shown)
    for target, with_film in ((path, True), (cover, False)):
        with av.open(str(film)) as old, av.open(str(target), "w") as new:
            image = new.add_stream("mjpeg", rate=25)
            image.height, image.width, image.pix_fmt = 240, 192, "yuvj420p"
            image.disposition = av.stream.Disposition.attached_pic
            stream = new.add_stream_from_template(old.streams.video[0]) if with_film else None
            large = np.zeros((240, 192, 3), np.uint8)
            new.mux(image.encode(av.VideoFrame.from_ndarray(large, format="rgb24")))
            new.mux(image.encode(None))
            for packet in old.demux(video=0) if with_film else ():
                if packet.dts is not None:
                    packet.stream = stream
                    new.mux(packet)
    np.testing.assert_array_equal(list(h264.decode(path)), shown)
    assert h264.probe(path).frames == COUNT
    refused(cover, r"holds no video stream \(only a cover image\)")


def sound(path):
    """Writes a file of a quarter of a second without a picture."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        sound.sample_rate = 16000
        file.mux(stream.encode(sound))
        file.mux(stream.encode(None))
    return path


def test_only_sound(tmp_path):
    refused(sound(tmp_path / "a.mp4"), r"holds no video stream \(only sound\)")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.4\n%abc\n" + b"x" * 500, "is no video of a format that is read"),
        (b"PK\3\4" + bytes(100), "is no video of a format that is read"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500), "is a HEIC picture, .* convert it"),
    ],
    ids=["pdf", "zip", "heic"],
)
def test_what_is_no_video_is_not_called_damaged(tmp_path, data, reason):
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    refused(path, reason)


def test_codecs_that_nobody_knows_and_frames_that_are_none(shown, tmp_path):
    path = tmp_path / "a.mp4"
    whole = written(tmp_path / "whole.mp4", shown).read_bytes()
    path.write_bytes(whole.replace(b"avc1", b"zzzz"))
    refused(path, "no decoder knows its video codec")
    start = whole.index(b"mdat") + 4
    size = int.from_bytes(whole[start - 8 : start - 4], "big") - 8
    path.write_bytes(whole[:start] + bytes(size) + whole[start + size :])
    refused(path, "fetch .*again")


# Whatever is raised while a clip is read.


ERRORS = [
    UserError("boxes.json: a box has three numbers"),
    ValueError("no such thing"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    AttributeError("'NoneType' object has no attribute 'name'"),
    PermissionError(13, "Permission denied", "x.mp4"),
]


@pytest.fixture(params=ERRORS, ids=lambda error: type(error).__name__)
def raised(request, monkeypatch):
    def read(source):
        del source
        raise request.param

    monkeypatch.setattr(clips, "read", read)
    return request.param


@pytest.fixture
def source(shown, tmp_path):
    path = written(tmp_path / "071.mp4", shown)
    video = clips.VideoFiles("original", "071", "071", "real", {"raw": path})
    return clips.ClipSource(video, clips.Recipe(("raw",), 2, faces.Whole()))


def check(error, raised, source):
    assert type(error) is UnusableClipError
    assert str(error).startswith(f"original/071: {source.files.best}: ")
    assert "\n" not in str(error)
    if isinstance(raised, UserError | OSError):
        assert str(raised.args[-1]) in str(error)
    else:
        assert type(raised).__name__ in str(error)
    back = pickle.loads(pickle.dumps(error))  # as from another process
    notes = getattr(back, "__notes__", [])
    assert len(notes) == (not isinstance(raised, UserError))
    assert all("Traceback" in note for note in notes)


def staged(folder, source):
    """The clip of a source, as a worker makes and keeps it."""
    return video_builder._staged_clip(folder, VideoDatasetBuilder.read_clip, source)


def test_whatever_is_raised_is_of_one_clip(raised, source, tmp_path):
    check(staged(tmp_path / "staging", source), raised, source)


def test_a_file_that_is_gone_is_of_one_clip(source, tmp_path):
    source.files.best.unlink()
    gone = staged(tmp_path, source)
    assert isinstance(gone, UnusableClipError)
    assert str(gone) == f"original/071: {source.files.best}: No such file or directory"


def test_the_same_under_beam(raised, source, tmp_path):
    pytest.importorskip("apache_beam")
    from data_builders import beam

    read = beam._ReadClip(lambda s: staged(tmp_path / "staging", s))
    (out,) = read.process((3, source))
    index, (reason, traces) = out.value
    assert (index, out.tag) == (3, "skipped")
    beam._write([(3, (reason, traces))], str(tmp_path / "clips.skipped"))
    beam._write([], str(tmp_path / "clips.failed"))
    assert beam.left_out(tmp_path / "clips") == [(reason, traces)]
    here = staged(tmp_path / "staging", source)
    assert reason == str(here)
    assert len(traces) == (not isinstance(raised, UserError))


@pytest.mark.parametrize("kind", [MemoryError, KeyboardInterrupt, SystemExit])
def test_what_is_of_the_machine_ends_the_build(source, tmp_path, monkeypatch, kind):
    def read(source):
        raise kind

    monkeypatch.setattr(clips, "read", read)
    with pytest.raises(kind):
        staged(tmp_path, source)


def test_a_folder_that_cannot_be_written_ends_the_build(source, tmp_path):
    (tmp_path / "staging").write_text("a file")
    with pytest.raises(UserError, match="cannot be written") as error:
        staged(tmp_path / "staging", source)
    assert not isinstance(error.value, UnusableClipError)


def test_errors_of_a_library_name_the_file_that_is_read(source, monkeypatch, shown):
    other = written(source.files.best.with_name("c23.mp4"), shown)

    def pixels(decoded, view):
        raise AttributeError("no such attribute")

    monkeypatch.setattr("data_builders.shown.pixels", pixels)
    with pytest.raises(
        h264.BrokenVideoError, match=r"c23\.mp4: cannot be read \(AttributeErr"
    ) as e:
        list(h264.decode(other))
    assert "Traceback" in e.value.__notes__[0]


def test_a_manifest_names_the_image():
    def read(source):
        raise ZeroDivisionError("by zero")

    item = reader.Tuple({"raw": "raw/0.png", "c23": "c23/0.png"}, "real", "original", "v", "v", 0)
    error = paired._finished(read, item)
    assert str(error) == "original/v: raw/0.png: ZeroDivisionError: by zero"
