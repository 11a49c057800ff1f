"""A page for a Hugging Face Space: drop a clip, and read in words what the detector says of it.

Each file is judged in a process of its own, which is prepared and watched as one of `qad-jax serve`
is. A decoder that the file of a stranger breaks, keeps busy or makes grow costs that file alone.
"""

from __future__ import annotations

import html
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qad_jax
from data_builders.files import parse_json
from qad_jax.detection.journal import MOST_VALUES
from qad_jax.detection.pages import parts, words
from qad_jax.detection.results import ERROR, Verdict
from qad_jax.detection.server import folders, work
from qad_jax.weights import model_file

if TYPE_CHECKING:
    import gradio as gr

MEGABYTE = 1_000_000
#: Bounds of one file, and how long Gradio keeps it.
MOST_MEGABYTES, MOST_SECONDS, KEPT_SECONDS = 100, 120.0, 600
#: Resident memory of the process that judges: a machine of 4 GB has room for it.
MOST_MEMORY_MEGABYTES = 3000
#: Bytes of a verdict, and of a page, that are read.
LARGEST_RESULT = 64 << 20
#: From one look at the process to the next.
BETWEEN_SECONDS = 0.1
#: Files that may wait.
MOST_WAITING = 16

INTRODUCTION = """
# Was this face manipulated?

The detector **{name} {version}** looks at the faces of a photograph or a video. It gives one of
these answers: it calls the file real, it calls it fake, it cannot tell, there is no face, or the
file cannot be judged. An answer is a statistic of images. It is no evidence against a person.
"""
LIMITS = f"""
A file may have {MOST_MEGABYTES} MB, and judging it may take {MOST_SECONDS:.0f} seconds. It stays on
the machine that shows this page, which sends nothing to anybody else. It is removed after about
{KEPT_SECONDS // 60} minutes. Send no file that nobody else may see.
"""
CHOOSE = "Photograph or video"
JUDGE = "Judge"
ANSWER, PAGE = "Answer", "The page of this file"
CARD = "Model card: what it was trained on, and how often it is wrong"
NO_FILE = "no file was chosen; choose one above"
TOO_LARGE = "the file has {megabytes:.0f} MB, and {most} are the most; send a smaller one"
TOO_LONG = "judging it takes more than {seconds:g} s here; send a shorter or a smaller file"
TOO_MUCH = "judging it takes more than {megabytes:g} MB of memory here; send a smaller file"
NO_VERDICT = "the program that reads it ended before it had an answer; send another file"

# Judges one file: what the folder of a job and the name of its file are is told to it.
_PROGRAM = """
import sys
from qad_jax.detection.server import work
work.prepare()
task = {"folder": sys.argv[1], "name": sys.argv[2]}
work.judge(work.load(), task, lambda **progress: None, [])
"""

# All answers look alike, and that nothing can be told is as large as the others.
STYLE = """
.answer { border: 1px solid var(--border-color-primary); border-left: 6px solid
  var(--body-text-color); border-radius: 6px; padding: 0.2rem 1rem; }
.answer h2 { font-size: 1.5rem; margin: 0.5rem 0; } .answer p { margin: 0.5rem 0; }
.page { width: 100%; height: 80vh; border: 1px solid var(--border-color-primary);
  background: white; }
"""


def judge(path: str | None, *, seconds: float = MOST_SECONDS) -> tuple[str, str]:
    """Judges a file.

    Args:
      path: An image, a video or an animation; None where nobody has chosen one.
      seconds: Time that it may take.

    Returns:
      The answer in words, and the page of the file in a frame or nothing, both as HTML.
    """
    if path is None:
        return _answer(ERROR, NO_FILE), ""
    size = Path(path).stat().st_size / MEGABYTE
    if size > MOST_MEGABYTES:
        return _answer(ERROR, TOO_LARGE.format(megabytes=size, most=MOST_MEGABYTES)), ""
    try:
        verdict, page = _detect(Path(path), seconds)
    except subprocess.TimeoutExpired:
        return _answer(ERROR, TOO_LONG.format(seconds=seconds)), ""
    except MemoryError:
        return _answer(ERROR, TOO_MUCH.format(megabytes=MOST_MEMORY_MEGABYTES)), ""
    except (OSError, ValueError):  # whatever it was, its own words are for the log
        return _answer(ERROR, NO_VERDICT), ""
    reason = str(verdict.reason).removeprefix(f"{verdict.file}: ")
    return _answer(verdict.verdict, reason), _frame(page)


def _detect(path: Path, seconds: float) -> tuple[Verdict, str]:
    """The verdict and the page of a file.

    Raises:
      TimeoutExpired: It takes longer; the process and all that it has started are ended.
      MemoryError: It takes more memory than it may, and is ended so, too.
      OSError: It has written no verdict and no page, or the disk is full.
      ValueError: What it has written is no verdict: the file has taken it over.
    """
    with tempfile.TemporaryDirectory(prefix="qad-jax-demo-") as folder:
        shutil.copyfile(path, Path(folder, work.FILE))
        code = os.pathsep.join([str(Path(qad_jax.__file__).parent.parent), *_python_path()])
        process = subprocess.Popen(
            # -P: no module of the working folder is imported.
            [sys.executable, "-P", "-c", _PROGRAM, folder, path.name],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": code},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _watch(process, seconds)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        told, page = (
            folders.content(Path(folder, name), LARGEST_RESULT) for name in (work.OBJECT, work.PAGE)
        )
        return Verdict.from_dict(parse_json(told, most=MOST_VALUES)), page.decode()


def _watch(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Waits for the end of a process, within bounds of time and memory."""
    end = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > end:
            raise subprocess.TimeoutExpired(process.args, seconds)
        if work.resident(process.pid) > MOST_MEMORY_MEGABYTES * MEGABYTE:
            raise MemoryError
        time.sleep(BETWEEN_SECONDS)


def _python_path() -> list[str]:
    return [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []


def _answer(verdict: str, reason: str) -> str:
    said = [words.REASON.format(reason=reason) if reason else "", words.MEANINGS[verdict]]
    title = f"<h2>{parts.text(words.TITLES[verdict])}</h2>"
    return "".join(['<div class="answer" role="status">', title, *parts.paragraphs(said), "</div>"])


def _frame(page: str) -> str:
    """A page in a frame that runs no script and reaches nothing around it."""
    return f'<iframe class="page" sandbox title="{PAGE}" srcdoc="{html.escape(page)}"></iframe>'


def create() -> gr.Blocks:
    """The page, which asks nobody over a network."""
    # Before Gradio is imported: it would report its start and its version to its makers.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import gradio as gr

    model = model_file.describe(model_file.SHIPPED)
    card = model_file.SHIPPED.with_suffix(".md").read_text(encoding="utf-8")
    kept = (60, KEPT_SECONDS)  # looked at each minute
    with gr.Blocks(title="qad-jax", analytics_enabled=False, delete_cache=kept) as page:
        gr.Markdown(INTRODUCTION.format(name=model.name, version=model.version))
        chosen = gr.File(label=CHOOSE)  # of any name: the content tells what it is
        button = gr.Button(JUDGE, variant="primary")
        answer = gr.HTML(label=ANSWER)
        shown = gr.HTML(label=PAGE)
        gr.Markdown(LIMITS)
        gr.HTML("".join(parts.conditions(model)))
        with gr.Accordion(CARD, open=False):
            gr.Markdown(card)
        button.click(judge, chosen, [answer, shown], api_name="judge", concurrency_limit=1)
    return page.queue(max_size=MOST_WAITING)


def launch(page: gr.Blocks, **options: Any) -> None:
    """Serves the page; on a Space, the environment says at which address.

    Args:
      page: From `create`.
      **options: More for `gr.Blocks.launch`.
    """
    import gradio as gr  # late, as in `create`

    page.launch(
        share=False,
        max_file_size=MOST_MEGABYTES * MEGABYTE,
        css=STYLE,
        theme=gr.themes.Default(primary_hue="blue"),  # white on its orange is hard to read
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        ssr_mode=False,
        **options,
    )


if __name__ == "__main__":
    launch(create())
