"""Builds the documentation site: `python docs/build.py OUT`.

The pages are the Markdown files of the repository, its notebook, and one page for each module. The
README is the home page. Sphinx needs a root document and a place for the pages that it makes, so
the build works on a copy. Any warning fails the build: a link to a missing file or heading is one.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

from sphinx.cmd.build import build_main

ROOT = Path(__file__).resolve().parent.parent

#: What the pages are made of or link to. Other folders may hold whole datasets.
_FOLDERS = ("benchmarks", "configs", "data_builders", "demo", "docs", "qad_jax", "tests")

#: Of the folder `weights`, in which large files of others may lie.
_OF_WEIGHTS = ("README.md", "detector.json", "photographs.csv")

_CONTENTS = """
```{toctree}
:hidden:
:caption: Guides
:glob:

docs/from_install_to_training
docs/datasets
docs/training
docs/evaluation
docs/comparison
docs/method
docs/*
demo/README
```

```{toctree}
:hidden:
:caption: Datasets and weights
:glob:

data_builders/*/README
weights/README
qad_jax/weights/detector
```

```{toctree}
:hidden:
:caption: Reference

api/qad_jax/index
api/data_builders/index
```

```{toctree}
:hidden:
:caption: Project

CHANGELOG
CONTRIBUTING
SECURITY
```
"""


def copy_sources(root: Path, source: Path) -> None:
    """Copies what the site is made of; the README becomes the root document.

    Args:
      root: The repository.
      source: An empty folder.
    """
    skipped = shutil.ignore_patterns("__pycache__", "*.npz", "*.pth", "*.safetensors")
    for folder in _FOLDERS:
        shutil.copytree(root / folder, source / folder, ignore=skipped)
    (source / "weights").mkdir()
    for file in [*root.glob("*"), *(root / "weights" / name for name in _OF_WEIGHTS)]:
        if file.is_file():
            shutil.copyfile(file, source / file.relative_to(root))
    (source / "README.md").rename(source / "index.md")
    for notebook in source.glob("docs/*.ipynb"):
        notebook.with_suffix(".md").write_text(as_markdown(notebook), encoding="utf-8")
    for page in [*source.glob("*.md"), *source.glob("*/*.md"), *source.glob("*/*/README.md")]:
        to_root = "../" * (len(page.relative_to(source).parts) - 1)
        text = page.read_text(encoding="utf-8")
        text = re.sub(rf"\]\({re.escape(to_root)}README\.md", f"]({to_root}index.md", text)
        text = re.sub(r"(\]\([\w./]+)\.ipynb\)", r"\1.md)", text)
        page.write_text(text, encoding="utf-8")
    with (source / "index.md").open("a", encoding="utf-8") as home:
        home.write(_CONTENTS)


def as_markdown(notebook: Path) -> str:
    """A notebook as a page: its text, its code, and where the file is. No outputs are stored in it.

    Args:
      notebook: The file, in version 4 of the format.
    """
    blocks = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        blocks.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    note = f"*This page is the notebook `docs/{notebook.name}`, which can be run.*"
    return "\n\n".join([blocks[0], note, *blocks[1:]])


def build(out: Path, root: Path = ROOT) -> int:
    """Builds the site.

    Args:
      out: The folder of the site; files of an earlier build are replaced.
      root: The repository.

    Returns:
      An exit status: 0 if there was no warning.
    """
    gc.set_threshold(100_000, 50, 100)  # pages are large trees: an eighth less time
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "source")
        source.mkdir()
        copy_sources(root, source)
        options = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(source / "docs")]
        return build_main([*options, "-d", f"{scratch}/doctrees", str(source), str(out)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Builds the documentation site.")
    parser.add_argument("out", type=Path, help="the folder that the site is written to")
    sys.exit(build(parser.parse_args().out))
