"""The notebook: it is stored without outputs, and runs from the first cell to the last."""

import csv
import json
import os
import re
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from qad_jax.detection.results import VERDICTS
from tests.conftest import ROOT

pytestmark = pytest.mark.checkout
NOTEBOOK = ROOT / "docs/from_install_to_training.ipynb"

# In a process of its own: the client leaves event loops open, and a warning is an error here.
_RUN = """
import sys, nbclient, nbformat
book = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(book, timeout=600, kernel_name="python3").execute()
nbformat.write(book, sys.argv[2])
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder in which the notebook has run, and what its cells have printed, by cell."""
    folder = tmp_path_factory.mktemp("notebook")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",  # else it warns that this will be the default
    }
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(NOTEBOOK), "ran.ipynb"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    book = nbformat.read(folder / "ran.ipynb", as_version=4)
    said = {
        cell.id: "".join(out.text for out in cell.outputs if out.get("name") == "stdout")
        for cell in book.cells
        if cell.cell_type == "code"
    }
    return folder / "runs/notebook", said


def test_it_is_stored_without_outputs():
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert len(code) > 5
    assert [cell.id for cell in code if cell.outputs or cell.execution_count] == []


def test_its_verdicts(ran):
    _, said = ran
    lines = [line for line in said["detect"].splitlines() if line.startswith("runs/notebook/")]
    assert [line.partition(":")[0] for line in lines] == [
        "runs/notebook/real.mp4",
        "runs/notebook/fake.mp4",
    ]
    verdict = re.search(r"^verdict: (\w+)$", said["verdict"], flags=re.MULTILINE)[1]
    assert verdict in VERDICTS
    assert lines[1].startswith(f"runs/notebook/fake.mp4: {verdict}")
    # A face was found in each of the frames that were asked for.
    assert len(re.search(r"^face 0 \[(.*)\]$", said["verdict"], flags=re.M)[1].split(",")) == 4


def test_its_training_and_its_numbers(ran):
    """The AUC that it prints is that of the stored scores, by another program."""
    folder, said = ran
    assert len(said["log"].splitlines()) == 6
    losses = [float(line.split()[2].strip(",")) for line in said["log"].splitlines()]
    assert np.isfinite(losses).all()
    # The same checkpoint and the same data: the same table.
    table = said["evaluate"].strip()
    assert "synthetic_faces/tiny/1.0.0 test, step" in table
    assert table in said["train"]
    with (folder / "training/evaluation/test/scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    stored = json.loads((folder / "training/evaluation/test/metrics.json").read_text())
    printed = dict(re.findall(r"^(\w+): AUC (\S+)", said["numbers"], flags=re.MULTILINE))
    assert set(printed) == set(stored["qualities"]) == {"raw", "c23", "c40"}
    for quality, auc in printed.items():
        of = [row for row in rows if row["quality"] == quality]
        label, score = ([float(row[name]) for row in of] for name in ("label", "score"))
        assert float(auc) == pytest.approx(roc_auc_score(label, score), abs=1e-3)
