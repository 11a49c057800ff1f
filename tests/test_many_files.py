"""Many files: shared batches, going on after a stop, bad files, pipelines, labelled files.

But in the first test, what is found in a file is replaced: its text says what it shows.
"""

import csv
import dataclasses
import errno
import fcntl
import io
import json
import os
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

from data_builders import workers
from data_builders.errors import UserError
from data_builders.faces import Detected
from qad_jax import cpu, models
from qad_jax.detection import command, listing, looking, many, media, printing
from qad_jax.detection.conditions import Appearance
from qad_jax.detection.detector import Detector
from qad_jax.detection.journal import Journal
from qad_jax.detection.labels import Labels
from qad_jax.detection.looking import Found, FoundFace, Place
from qad_jax.detection.quality import Quality
from qad_jax.detection.results import Verdict
from qad_jax.evaluation import protocol
from tests.commands import call
from tests.test_detection import by_colour, film, filmed, model, tinted

CRF = {"c23": 23, "c40": 40}


@dataclasses.dataclass(frozen=True)
class ByText:
    """Finds what the text of a file says, such as 'fake c23'; `workers` can send it."""

    def __call__(self, task):
        path = Path(task.file)
        try:
            digest = media.sha256(path)
        except OSError as error:
            return Found(task.file, error=f"{task.file}: {error.strerror}")
        if digest == task.known:
            return Found(task.file, digest, known=True)
        shown, quality = path.read_text().split()[:2]
        if shown == "deadly":
            os.abort()
        if shown == "broken":
            return Found(task.file, digest, error=f"{task.file}: is broken", trace="Traceback ...")
        facts = dataclasses.asdict(media.Facts("image", 99, 99))
        if shown == "empty":
            return Found(task.file, digest, facts=facts, frames=1)
        crop = np.zeros((8, 8, 3), np.uint8)
        crop[..., 2 if shown == "fake" else 0] = 99
        places = (Place(0, None, (0, 0, 8, 8)), Place(1, None, (0, 0, 8, 8)))
        face = FoundFace(places, (crop, crop), (), Appearance(100.0))
        estimated = Quality(CRF[quality], CRF[quality], CRF[quality], "a text")
        return Found(
            task.file,
            digest,
            facts=facts,
            frames=2,
            faces=(face,),
            estimated=estimated,
            nearest=quality,
        )


@pytest.fixture
def detector(monkeypatch):
    made = Detector(model(), frames=8)
    made.__dict__["_score"] = by_colour
    monkeypatch.setattr(Detector, "looker", lambda self, keep=True: ByText())

    def opened(_, frames):
        made.frames = frames
        return made

    monkeypatch.setattr(Detector, "from_pretrained", opened)
    return made


@pytest.fixture
def folder(tmp_path):
    """Five files in a folder, named by what they show."""
    made = tmp_path / "clips"
    made.mkdir()
    for name in ("a-fake", "b-broken", "c-real", "d-empty", "e-fake"):
        (made / f"{name}.mp4").write_text(f"{name[2:]} c23")
    return made


def judge(*arguments):
    return call(*arguments, main=command.main)


def told(lines):
    """What JSON Lines say, in short: the name of each file and its verdict."""
    objects = map(json.loads, lines.splitlines())
    return [(Path(one["file"]).stem, one["verdict"]) for one in objects]


FOLDER = [
    ("a-fake", "fake"),
    ("b-broken", "error"),
    ("c-real", "real"),
    ("d-empty", "no_face"),
    ("e-fake", "fake"),
]


# Batches


def test_shared_batches_give_the_bytes_of_files_alone(tmp_path):
    """With a real network and real files, whose crops are resized on their way."""
    described = dataclasses.replace(model().description, network="resnet_least")
    network = models.create("resnet_least")
    start = jax.jit(lambda key: network.init(key, np.zeros((1, 32, 32, 3)), train=False))
    variables = jax.device_get(dict(start(jax.random.key(0))))
    detector = Detector(dataclasses.replace(model(), description=described, variables=variables))
    cv2.imwrite(str(tmp_path / "a.png"), filmed(1)[0][..., ::-1])
    cv2.imwrite(str(tmp_path / "c.png"), tinted(filmed(1))[0][..., ::-1])
    (tmp_path / "b.png").write_text("no image")
    film(tmp_path / "d.mp4", filmed(3))
    files = [str(tmp_path / name) for name in ("a.png", "b.png", "c.png", "d.mp4")]
    together = [look.verdict.as_json() for _, look in many.looks(detector, files)]
    assert together == [detector(file).as_json() for file in files]
    scores = [face["frames"] for face in json.loads(together[3])["faces"]]
    assert [len(frames) for frames in scores] == [3]
    for one in together:
        assert Verdict.from_dict(json.loads(one)).as_json() == one


def found(number, crops):
    """A file of which so many crops are to be scored, each of which has a score of its own."""
    images = tuple(np.full((1, 1, 3), 10 * number + i, np.uint8) for i in range(crops))
    return Found(f"{number}", faces=(FoundFace((), images, (), Appearance(1.0)),))


def test_batches_are_full_and_the_order_stays():
    asked = []

    def score(crops):
        asked.append(len(crops))
        return np.array([crop[0, 0, 0] for crop in crops], np.float32)

    counts = [1, 0, 2, 5, 0, 4, 3]
    files = [found(i, n) for i, n in enumerate(counts)]
    scored = list(many.scored(iter(files), score, 4))
    assert [one.file for one, _ in scored] == [f"{i}" for i in range(7)]
    for i, (_, scores) in enumerate(scored):
        assert scores.tolist() == [10 * i + k for k in range(counts[i])]
    assert sum(asked) == sum(counts)
    assert all(n % 4 == 0 for n in asked[:-1])


def test_few_crops_do_not_wait_for_many_files():
    taken = []

    def files():
        for number in range(1000):
            taken.append(number)
            yield found(number % 20, 1 if number == 0 else 0)

    scored = many.scored(files(), lambda crops: np.zeros(len(crops), np.float32), 64)
    assert next(scored)[0].file == "0"
    assert len(taken) == many.MOST_WAITING + 1


@pytest.mark.parametrize("cores", [1, 2])
def test_a_file_that_ends_its_process_costs_its_own_verdict(detector, folder, monkeypatch, cores):
    monkeypatch.setattr(workers, "POOL_PAYS_FROM", 1)
    monkeypatch.setattr(workers, "available_cores", lambda: cores)
    (folder / "c-real.mp4").write_text("deadly c23")
    result = judge(folder, "--json")
    assert result.status == 3
    assert told(result.out) == [*FOLDER[:2], ("c-real", "error"), *FOLDER[3:]]
    reason = json.loads(result.out.splitlines()[2])["reason"]
    assert reason.endswith("ended at once, twice; it may be made to break decoders")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("a codec\nfailed"), "RuntimeError: a codec failed"),
    ],
)
def test_whatever_is_raised_is_a_verdict(tmp_path, monkeypatch, error, reason):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(looking.media, "read", fail)
    (tmp_path / "a.mp4").write_text("x")
    detector = Detector(model())
    verdict = detector(tmp_path / "a.mp4")
    assert (verdict.verdict, verdict.reason) == ("error", f"{tmp_path / 'a.mp4'}: {reason}")
    monkeypatch.setattr(Detector, "from_pretrained", lambda *_, **__: detector)
    quiet, loud = (judge(tmp_path / "a.mp4", *more) for more in ((), ("--debug",)))
    assert quiet.status == loud.status == 1
    assert "Traceback" not in quiet.err
    assert "Traceback" in loud.err


# Going on


def test_results_are_kept_and_done_files_left_out(detector, folder, tmp_path):
    results = tmp_path / "new" / "results.jsonl"
    first = judge(folder, "--results", results, "--json")
    assert first.status == 3
    assert results.read_text() == first.out
    assert told(first.out) == FOLDER
    again = judge(folder, "--results", results, "--json")
    assert told(again.out) == [("b-broken", "error")]  # an error is tried again
    assert "4 files are in" in again.err
    assert again.status == 3
    (folder / "b-broken.mp4").write_text("real c40")
    (folder / "c-real.mp4").write_text("fake c23")  # changed
    (folder / "f.mp4").write_text("empty c23")  # new
    changed = judge(folder, "--results", results)
    assert changed.status == 0
    assert [line.partition(";")[0].rpartition("/")[2] for line in changed.out.splitlines()] == [
        "b-broken.mp4: real",
        "c-real.mp4: fake",
        "f.mp4: no face",
    ]
    assert judge(folder, "--results", results).out == ""
    # Another number of frames, or another model, is another verdict.
    assert len(judge(folder, "--results", results, "--frames=4").out.splitlines()) == 6
    detector.model = dataclasses.replace(detector.model, sha256="1" * 64)
    assert len(judge(folder, "--results", results).out.splitlines()) == 6
    assert judge(folder, "--results", results, "--frames=4").status == 0


def test_a_line_without_an_end_is_dropped(detector, folder, tmp_path):
    results = tmp_path / "results.jsonl"
    judge(folder, "--results", results)
    whole = results.read_bytes()
    results.write_bytes(whole[:-40])  # of the last file
    assert told(judge(folder, "--results", results, "--json").out) == [FOLDER[1], FOLDER[4]]
    lines = results.read_text().splitlines()
    assert len(lines) == 6
    assert sorted(set(told("\n".join(lines)))) == FOLDER


def test_a_verdict_that_another_program_has_saved_is_kept(detector, folder, tmp_path):
    """Such as that of the service, which has no line end."""
    results = tmp_path / "results.jsonl"
    saved = judge(folder / "c-real.mp4", "--json").out.rstrip("\n")
    results.write_text(saved)
    assert told(judge(folder / "c-real.mp4", "--results", results, "--json").out) == []
    assert results.read_text() == saved + "\n"
    judge(folder / "a-fake.mp4", "--results", results)
    assert told(results.read_text()) == [("c-real", "real"), ("a-fake", "fake")]


def test_a_file_of_something_else_is_left_as_it_is(detector, folder, tmp_path):
    one = b'{"file": "a"}'
    for content in (b"a photograph", b"a\nb\n", one, one + b"\n", b'{"file": 3}\nx', b"[1]\n"):
        other = tmp_path / "other"
        other.write_bytes(content)
        result = judge(folder, "--results", other)
        assert result.status == 1
        assert "is no verdict of this command; name a file that is new" in result.err
        assert other.read_bytes() == content


def test_a_damaged_line_names_its_file(detector, folder, tmp_path):
    """Other programs may have written to it. The files before it are judged."""
    results, file = tmp_path / "results.jsonl", folder / "c-real.mp4"
    line = json.loads(judge(file, "--json").out)
    del line["probability"]
    results.write_text(json.dumps(line) + "\n")
    result = judge(folder, "--results", results, "--json")
    assert result.status == 1
    assert told(result.out) == FOLDER[:2]
    assert result.err.splitlines()[-1] == (
        f"error: --results: {results}: the last line of {file} is damaged (it is no verdict: "
        "KeyError: 'probability'); remove it, and the file is judged again"
    )


@pytest.mark.parametrize("flag", ["--results=~/v.jsonl", "--out=~/pages"])
def test_the_folder_of_the_user_behind_an_option(detector, folder, tmp_path, monkeypatch, flag):
    """Which a shell leaves as it is."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert judge(folder, flag).status == 3
    assert (tmp_path / flag.partition("~/")[2]).exists()
    labelled(tmp_path, ROWS[:1])
    assert judge("--labels=~/labels.csv", flag.replace("pages", "report")).status == 0
    assert not list(Path().iterdir())


def test_one_process_writes_at_a_time(detector, folder, tmp_path):
    results = tmp_path / "results.jsonl"
    with results.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another process writes to it" in judge(folder, "--results", results).err
    assert judge(folder, "--results", results).status == 3


def test_what_was_judged_before_an_interruption_is_kept(detector, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(many, "batch_size", lambda: 2)
    calls = iter(range(10))

    def interrupted(crops):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return by_colour(crops)

    detector.__dict__["_score"] = interrupted
    results = tmp_path / "results.jsonl"
    result = judge(folder, "--results", results, "--json")
    assert result.status == 130
    assert result.err.endswith("with --results the same command goes on after the last verdict\n")
    assert told(results.read_text()) == FOLDER[:4]
    detector.__dict__["_score"] = by_colour
    assert told(judge(folder, "--results", results, "--json").out) == [FOLDER[1], FOLDER[4]]


def test_pages_say_what_the_verdicts_say(detector, folder, tmp_path):
    """A page that was made with other frames, or by another model, is none of this run."""
    file = folder / "c-real.mp4"
    results, out = tmp_path / "results.jsonl", tmp_path / "pages"
    run = (file, "--results", results, "--out", out)
    judge(*run)
    (page,) = out.glob("c-real*")
    made = page.read_bytes()
    judge(*run, "--frames=4")
    assert [each.name for each in out.glob("c-real*")] != [page.name]
    own = detector.model
    detector.model = dataclasses.replace(own, sha256="1" * 64)
    judge(*run)
    assert [each.name for each in out.glob("c-real*")] != [page.name]
    detector.model = own
    assert judge(*run).status == 0
    (again,) = out.glob("c-real*")
    assert (again.name, again.read_bytes()) == (page.name, made)


def test_pages_of_done_files_are_kept(detector, folder, tmp_path):
    (folder / "b-broken.mp4").unlink()
    results, out = tmp_path / "results.jsonl", tmp_path / "pages"
    run = (folder, "--json", "--results", results, "--out", out)
    first = judge(*run)
    assert first.status == 0
    pages = {path.name: path.read_bytes() for path in out.iterdir()}
    assert len(pages) == 6
    assert judge(*run).out == ""
    assert {path.name: path.read_bytes() for path in out.iterdir()} == pages
    next(out.glob("c-real*")).unlink()  # without its page, a file is not done
    assert told(judge(*run).out) == [("c-real", "real")]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == pages


def test_names_with_bytes_that_are_no_characters(detector, folder, tmp_path):
    odd = os.fsencode(folder) + b"/\xff.mp4"
    Path(os.fsdecode(odd)).write_text("real c23")
    journal = tmp_path / "results.jsonl"
    assert len(judge(folder, "--results", journal, "--json").out.splitlines()) == 6
    assert told(judge(folder, "--results", journal, "--json").out) == [FOLDER[1]]


def test_names_from_standard_input_are_bytes(monkeypatch):
    """Its encoding may be one that refuses them."""
    lines = io.BytesIO(b"\xff.mp4\r\n \n/a/\xc3\xa4.mp4\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(lines, "ascii", "strict"))
    assert [os.fsencode(name) for name in listing.find(["-"])] == [b"\xff.mp4", b"/a/\xc3\xa4.mp4"]


@pytest.mark.parametrize("part", ["", "inner"])
def test_a_folder_that_cannot_be_read_is_an_error(detector, folder, monkeypatch, part):
    """The files beside it are judged."""
    (folder / "inner").mkdir()
    closed = folder / part
    scandir = os.scandir

    def refused(path):
        if Path(path) == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    result = judge(folder, "--json")
    verdicts = told(result.out)
    assert verdicts == [*([] if not part else FOLDER), (closed.name, "error")]
    assert result.status == (3 if part else 1)
    assert f"{closed}: Permission denied" in json.loads(result.out.splitlines()[-1])["reason"]
    found = looking.Looker(8, Detected(), ("raw",))(looking.Task(str(closed)))
    assert found.error == f"{closed}: cannot be read: Permission denied"


def test_a_link_to_a_folder_is_not_entered(folder):
    (folder / "back").symlink_to(folder)
    assert len(listing.find([str(folder)])) == len(FOLDER)


# Pipelines


def test_a_beam_pipeline_gives_the_same_json(detector, folder, tmp_path):
    pytest.importorskip("apache_beam")
    from qad_jax.detection import beam

    beam._detector.cache_clear()
    results = tmp_path / "results.jsonl"
    piped = (folder, "--json", "--results", results, "--beam", "--")
    options = ("--runner=DirectRunner", "--direct_running_mode=in_memory")
    result = judge(*piped, *options)
    assert result.status == 3, result.err
    alone = judge(folder, "--json")
    assert sorted(result.out.splitlines()) == sorted(alone.out.splitlines())
    assert results.read_text() == result.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "results.jsonl"]
    unkept = judge(folder, "--json", "--beam", "--", *options)
    assert sorted(unkept.out.splitlines()) == sorted(alone.out.splitlines())
    # What a pipeline that was stopped has left is taken first.
    lines = results.read_text().splitlines(keepends=True)
    real = next(line for line in lines if "c-real" in line)
    results.write_text("".join(line for line in lines if line != real))
    (tmp_path / "results.jsonl.parts").mkdir()
    (tmp_path / "results.jsonl.parts" / "0-1.jsonl").write_text(real)
    again = judge(*piped, *options)
    assert told(again.out) == [("b-broken", "error")]
    assert told(results.read_text())[-2:] == [("c-real", "real"), ("b-broken", "error")]


def test_workers_that_write_elsewhere_are_told(detector, folder, tmp_path, monkeypatch):
    """To a folder of the same name on another machine; what was judged before is there."""
    pytest.importorskip("apache_beam")
    from qad_jax.detection import beam

    beam._detector.cache_clear()
    results = tmp_path / "results.jsonl"
    judge(folder / "a-fake.mp4", "--results", results)
    monkeypatch.setattr(beam, "write_whole", lambda *_: None)
    options = ("--runner=DirectRunner", "--direct_running_mode=in_memory")
    result = judge(folder, "--results", results, "--beam", "--", *options)
    assert result.status == 1
    assert result.err.splitlines()[-1] == (
        f"error: {folder / 'b-broken.mp4'}: no worker has written a verdict on it into "
        f"{results}.parts; every worker must reach that folder under this path"
    )


def test_a_worker_elsewhere_computes_as_the_command_does(monkeypatch):
    pytest.importorskip("apache_beam")
    from qad_jax.detection import beam

    monkeypatch.setattr(cpu, "_XLA_FLAGS", {"--a_flag=1": ("0", "99")})
    monkeypatch.setattr(cpu.importlib.util, "find_spec", lambda _: None)  # of an accelerator
    monkeypatch.setenv("XLA_FLAGS", "")
    beam._Judge(None, 8, "").setup()
    assert os.environ["XLA_FLAGS"] == "--a_flag=1"


def test_options_stand_between_paths(detector, folder):
    first, last = folder / "a-fake.mp4", folder / "c-real.mp4"
    assert judge(first, "--json", last).out == judge(first, last, "--json").out


def test_results_in_a_folder_or_where_none_can_be(detector, folder, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place, reason in (
        (tmp_path, f"--results: {tmp_path}: is a folder; name a file"),
        (tmp_path / "pipe", f"--results: {tmp_path / 'pipe'}: is a pipe; name a file"),
        (tmp_path / "file/x", "--results: cannot write to "),
        (tmp_path / "pages/r.jsonl", "is in the folder of --out, whose files are replaced"),
    ):
        (tmp_path / "file").touch()
        result = judge(folder, "--results", place, "--out", tmp_path / "pages")
        assert (result.status, result.out) == (1, "")
        assert reason in result.err


def test_options_that_do_not_fit(detector, folder, tmp_path):
    for words, reason in (
        ((folder, "--beam", "--results", "r", "--out", "o"), "--beam writes no pages"),
        (("--model", "m"), "name a file or a folder to judge, or --labels"),
        ((folder, "--beam", "--results", "r", "--", "--runner=No"), "--beam: pipeline options: "),
    ):
        result = judge(*words)
        assert result.status == 1
        assert reason in result.err


# Labels


def labelled(folder, rows, header="file,label,method,identity"):
    for row in rows:
        name, _, rest = row.partition(",")
        shown = rest.rpartition(",")[2]
        (folder / name).write_text(shown)
    table = folder / "labels.csv"
    table.write_text("\n".join([header, *(row.rpartition(",")[0] for row in rows)]) + "\n")
    return table


# The last column is what the file shows: whom the detector gets wrong is known.
ROWS = [
    "r0.mp4,real,,ann,real c23",
    "r1.mp4,real,,bob,real c23",
    "r2.mp4,real,,eve,fake c40",
    "r3.mp4,real,,joe,real c40",
    "f0.mp4,fake,swap,ann,fake c23",
    "f1.mp4,FAKE,swap,bob,fake c40",
    "f2.mp4,fake,gan,eve,fake c23",
    "f3.mp4,fake,gan,joe,empty c40",
]


def test_labelled_files_are_measured(detector, tmp_path):
    table, out = labelled(tmp_path, ROWS), tmp_path / "report"
    result = judge("--labels", table, "--out", out)
    assert result.status == 0, result.err
    assert result.err.count("warning") == 0
    lines = result.out.splitlines()
    counts = {line[:14].strip(): line[14:].split() for line in lines if line[14:15] == " "}
    assert counts["real"] == ["3", "0"]
    assert counts["fake"] == ["1", "3"]
    assert counts["no face"] == ["0", "1"]
    rates = {row["files"]: row for row in csv.DictReader(io.StringIO(_read(out / "verdicts.csv")))}
    assert list(rates) == ["all", "c23", "c40", "gan and all reals", "swap and all reals"]
    whole = rates["all"]
    assert (whole["real_clips"], whole["fake_clips"]) == ("4", "3")
    assert float(whole["false_positive_rate"]) == 0.25
    assert float(whole["false_negative_rate"]) == 0
    # 12 pairs of a fake and a real file: nine are in order, and three are equal.
    assert float(whole["auc"]) == pytest.approx((9 + 3 / 2) / 12)
    assert float(rates["c23"]["auc"]) == 1
    assert float(rates["c40"]["auc"]) == pytest.approx(0.75)
    assert float(rates["gan and all reals"]["auc"]) == pytest.approx((3 + 1 / 2) / 4)
    assert 0 <= float(whole["auc_low"]) < 0.875 < float(whole["auc_high"]) <= 1
    report = protocol.read(out)
    assert list(report.summary.qualities) == ["all", "c23", "c40"]
    assert report.summary.qualities["all"].video.auc.value == pytest.approx(0.875)
    assert report.summary.qualities["c40"].video.auc.value == pytest.approx(0.75)
    assert set(report.summary.methods) == {"gan", "swap"}
    page = _read(out / "report.html")
    assert "Error rates of the verdicts" in page
    assert "each quality is of other files" in page
    assert str(out / "report.html") in result.out


def _read(path):
    return path.read_text(encoding="utf-8")


def test_labels_with_results_and_other_files(detector, folder, tmp_path):
    table = labelled(folder, ROWS[:3] + ROWS[4:6])
    results = tmp_path / "results.jsonl"
    judge(folder, "--results", results)
    (folder / "r0.mp4").unlink()
    result = judge(folder, "--results", results, "--labels", table, "--json")
    assert told(result.out) == [("b-broken", "error")]
    assert "1 listed files were not judged: r0.mp4" in result.err
    assert "does not list 5 judged files" in result.err
    assert "verdict          real   fake" in result.err
    table.write_text("file;label\nr1.mp4;0\nnone.mp4;1\n")
    result = judge("--labels", table)
    assert result.status == 3
    assert "none.mp4: error" in result.out
    assert "does not say who is shown in 2 of 2 files (column identity)" in result.err


def test_a_file_that_is_named_twice_counts_once(detector, tmp_path, monkeypatch):
    """In the rates, in the scores of the frames, and among those that are not listed."""
    monkeypatch.chdir(tmp_path)
    table, out = labelled(tmp_path, ROWS[:2] + ROWS[4:5]), tmp_path / "report"
    (tmp_path / "other.mp4").write_text("real c23")
    names = [name for one in ("f0", "other", "r0") for name in (f"{one}.mp4", f"./{one}.mp4")]
    result = judge(*names, tmp_path / "f0.mp4", "--labels", table, "--out", out)
    assert result.status == 0, result.err
    assert f"{'real':<14}{1:>7}{0:>7}\n{'fake':<14}{0:>7}{1:>7}\n" in result.out
    rates = next(csv.DictReader(io.StringIO(_read(out / "verdicts.csv"))))
    assert (rates["real_clips"], rates["fake_clips"]) == ("1", "1")
    assert len(_read(out / "scores.csv").splitlines()) == 1 + 2 * 2  # two frames of each
    assert "1 listed files were not judged: r1.mp4" in result.err
    assert "does not list 1 judged files: other.mp4" in result.err


def test_the_table_of_verdicts_becomes_one_of_labels(tmp_path):
    """A name that a spreadsheet would run is marked in the first, and found by the second."""
    names = ["=1+1.mp4", "'=1+1.mp4", "-a.mp4"]
    for name in names:
        (tmp_path / name).touch()
    verdicts = [Verdict(name, None, "no_face") for name in names]
    rows = [printing.row(verdict).partition(",")[0] for verdict in verdicts]
    assert rows == ["'=1+1.mp4", "''=1+1.mp4", "'-a.mp4"]
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(f"{row},1\n" for row in rows[1:]))
    found = [row.path for row in Labels(tmp_path / "labels.csv").files()]
    assert found == [str(tmp_path / name) for name in names[1:]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,label\na.mp4,perhaps\n", "row 2: label is 'perhaps'; must be real or fake"),
        ("file,label\na.mp4,real\n./a.mp4,fake\n", "row 3: ./a.mp4 is there twice; keep one row"),
        ("file,label\n,real\n", "row 2: names no file"),
        ("file,label\na.mp4\n", "row 2: 1 values, the header has 2"),
        ("file,lable\na.mp4,real\n", "has no column 'label' (or target, y_true, ground_truth)"),
        ("file,label,target\na.mp4,real,1\n", "more than one column could be 'label'"),
        ("file,label\n", "lists no file"),
    ],
)
def test_tables_with_a_mistake(detector, tmp_path, text, reason):
    table = tmp_path / "labels.csv"
    table.write_text(text)
    result = judge("--labels", table)
    assert result.status == 1
    assert result.err.startswith(f"error: {table}: ")
    assert reason in result.err
    assert result.err.count("\n") == 1


def test_a_journal_tells_what_is_known(tmp_path):
    path = tmp_path / "results.jsonl"
    settings = {"sha256": "m", "frames": 8}
    journal = Journal(path, model="m", frames=8)
    journal.append(Verdict("a", "0a", "real", model=settings))
    journal.append(Verdict("b", None, "error", model=settings))
    journal.append(Verdict("a", "0b", "fake", model=settings))
    journal.close()
    journal = Journal(path, model="m", frames=8)
    assert (journal.known("a"), journal.known("b"), journal.known("c")) == ("0b", None, None)
    assert journal.stored("a").verdict == "fake"
    journal.close()
    other = Journal(path, model="n", frames=8)
    assert other.known("a") is None
    other.close()
    path.write_text(path.read_text() + '{"file": "a", "verdict": "real"}\n')
    with pytest.raises(UserError, match="line 4 is no verdict"):
        Journal(path, model="m", frames=8)
