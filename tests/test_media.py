"""What `detect` opens: what is no file, takes too long or too much, and when a frame is shown."""

import os
import socket
import threading

import pytest

from data_builders import h264
from data_builders.errors import UserError
from data_builders.images import read_image
from qad_jax.detection import command
from qad_jax.detection.detector import Detector
from qad_jax.weights import model_file
from tests.commands import call
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
