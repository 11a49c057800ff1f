"""Settings of the documentation site. `docs/build.py` builds it: see there for what goes in."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

from astroid.manager import AstroidManager
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.application import Sphinx

project = "qad-jax"
copyright = "the authors of qad-jax"

extensions = ["myst_parser", "autoapi.extension", "sphinx.ext.napoleon"]
include_patterns = [
    "*.md",
    "docs/*.md",
    "weights/README.md",
    "demo/README.md",
    "qad_jax/weights/detector.md",
    "data_builders/*/README.md",
    "api/**",
]

# Headings of four levels can be linked to by the names that a host of the repository gives them.
myst_heading_anchors = 4

# The packages are read and not imported, and the pages follow from the modules that are there.
autoapi_dirs = ["qad_jax", "data_builders"]
autoapi_root = "api"
autoapi_add_toctree_entry = False  # the table of contents in build.py has it
autoapi_options = ["members", "undoc-members", "show-module-summary"]
autoapi_python_class_content = "class"
autoapi_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = "name"
highlight_language = "text"
maximum_signature_line_length = 80
suppress_warnings = [
    "autoapi.python_import_resolution",  # re-exported names whose module has no page
    "ref.python",  # two modules may name a type alike; an annotation does not say whose it means
]

html_theme = "furo"
html_title = "qad-jax"
html_static_path = ["static"]  # beside this file
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False


def imports(folders: list[Path]) -> set[str]:
    """Every module of another project that a module in these folders may import."""
    names: set[str] = set()
    for file in (file for folder in folders for file in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
    own = {*autoapi_dirs, *sys.stdlib_module_names}
    return {name for name in names if name.split(".")[0] not in own}


# Sphinx-autoapi would read JAX and TFDS too, for values that no page shows: a quarter of the time.
AstroidManager().module_denylist |= imports(
    [Path(__file__).resolve().parent.parent / folder for folder in autoapi_dirs]
)

_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


def name(
    role: str, rawtext: str, text: str, lineno: int, inliner: Any, *_: Any, **__: Any
) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """What single backticks mean in a docstring: code, and a link where it names something."""
    del role, lineno
    code = nodes.literal(rawtext, text)
    if not _NAME.fullmatch(text):
        return [code], []
    env = inliner.document.settings.env
    reference = addnodes.pending_xref(
        rawtext,
        code,
        refdomain="py",
        reftype="obj",
        reftarget=text,
        refdoc=env.current_document.docname,
        refwarn=False,
        **{"py:module": env.ref_context.get("py:module")},
        **{"py:class": env.ref_context.get("py:class")},
    )
    return [reference], []


def references(app: Sphinx, what: str, name: str, obj: object, options: object, lines: Any) -> None:
    """Gives each numbered reference of a docstring a line of its own."""
    del app, what, name, obj, options
    lines[:] = [re.sub(r"^( *)(?=\[\d+\] )", r"\1| ", line) for line in lines]


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def sidebar(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Opens one branch of the table of contents, that of the page.

    The theme asks for the whole of it on each page: two thirds of the time of a build, and of a
    page's size.
    """
    del app, page, template, doctree
    if (whole := context.get("toctree")) is not None:
        context["toctree"] = lambda **options: whole(**options | {"collapse": True})


def setup(app: Sphinx) -> None:
    """Registers the role, the references, and formulas as MathML: that needs no script."""
    app.add_role("name", name)
    app.connect("autodoc-process-docstring", references)
    app.connect("html-page-context", sidebar, priority=400)  # before the theme's
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))


html_math_renderer = "mathml"
