"""Many files: processes look at the next ones while the network scores full batches of crops.

Verdicts come in the order of the files, and each is the same as if its file were judged alone. At
most `workers.parallel_map`'s few files for each core, and `MOST_WAITING` more, are on their way at
a time; each has two crops for each of its faces in each of its frames.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from data_builders import workers
from qad_jax.detection.detector import Detector
from qad_jax.detection.examination import Look
from qad_jax.detection.looking import Found, Image, Task
from qad_jax.detection.scoring import batch_size

#: Files that wait for a batch to become full, at the most: a few crops need not wait for long.
MOST_WAITING = 32


def looks(
    detector: Detector,
    files: Sequence[str],
    *,
    known: Callable[[str], str | None] = lambda _: None,
    keep: bool = False,
) -> Generator[tuple[str, Look | None]]:
    """Judges files.

    Where there are many, processes look at them, and one that dies, such as by a fault in a codec,
    costs the verdict of its file alone.

    Args:
      detector: Judges them.
      files: Their paths.
      known: SHA-256 of the content of a file that was judged before; None where it was not.
      keep: Whether the crops keep their pixels, see `Detector.looker`.

    Yields:
      Each path with what is said of it, in their order; None where its content is known.
    """
    tasks = (Task(file, known(file)) for file in files)
    many = len(files) >= workers.POOL_PAYS_FROM  # one core has a process for them, too
    with workers.parallel_map(len(files), died=_died, apart=many) as ordered_map:
        found = ordered_map(detector.looker(keep=keep), tasks)
        for one, scores in scored(found, detector.scores, batch_size()):
            yield one.file, None if one.known else detector.look(one, scores)


def _died(task: Task) -> Found:
    reason = "the process that read it ended at once, twice; it may be made to break decoders"
    return Found(task.file, error=f"{task.file}: {reason}")


def scored(
    found: Iterable[Found],
    score: Callable[[Sequence[Image]], npt.NDArray[np.floating]],
    batch: int,
) -> Iterator[tuple[Found, npt.NDArray[np.floating]]]:
    """Scores the crops of several files together.

    Args:
      found: The files.
      score: Gives `(n,)` scores of n crops.
      batch: Number of crops that it takes at a time: it is called with a multiple of it, but where
        too many files wait, and at the end.

    Yields:
      Each file with the scores of its crops, in their order.
    """
    waiting: collections.deque[tuple[Found, int]] = collections.deque()
    crops: list[Image] = []  # of the waiting files, not scored yet
    scores: npt.NDArray[np.floating] = np.zeros(0, np.float32)  # of the first of them

    def score_first(count: int) -> None:
        nonlocal scores
        if count:
            scores = np.concatenate([scores, score(crops[:count])])
            del crops[:count]

    def finished(files: int) -> Iterator[tuple[Found, npt.NDArray[np.floating]]]:
        nonlocal scores
        while len(waiting) > files or (waiting and waiting[0][1] <= len(scores)):
            if waiting[0][1] > len(scores):
                score_first(len(crops))
            one, count = waiting.popleft()
            own, scores = scores[:count], scores[count:]
            yield one, own

    for one in found:
        own = one.crops()
        waiting.append((one, len(own)))
        crops += own
        score_first(len(crops) // batch * batch)
        yield from finished(MOST_WAITING)
    yield from finished(0)
