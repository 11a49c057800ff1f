"""The documentation: the site builds without a warning, and every link leads somewhere."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import links

pytestmark = pytest.mark.checkout
ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("qad_jax", "data_builders")

pytestmark = pytest.mark.checkout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` builds it."""
    out = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, str(ROOT / "docs/build.py"), str(out)]
    done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return out


def test_links_of_the_site(site):
    pages = sorted(site.rglob("*.html"))
    assert links.broken(site, pages, offline=True) == []
    names = {"index.html", "CONTRIBUTING.html", "SECURITY.html", "from_install_to_training.html"}
    assert names <= {page.name for page in pages}


def test_each_module_has_a_page(site):
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    modules = {file.parent if file.stem == "__init__" else file.with_suffix("") for file in files}
    public = {module for module in modules if not module.name.startswith("_")}
    pages = {ROOT / page.parent.relative_to(site / "api") for page in site.glob("api/**/*.html")}
    assert len(public) > 50
    assert public - pages == set()


def test_links_of_the_repository():
    patterns = (
        "*.md",
        "docs/*.md",
        "weights/*.md",
        "demo/*.md",
        "data_builders/*/*.md",
        ".github/**/*.md",
    )
    files = sorted(file for pattern in patterns for file in ROOT.glob(pattern))
    assert ROOT / "README.md" in files
    assert links.broken(ROOT, files) == []


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("other.md", ""),
        ("other.md#the-second-part", ""),
        ("#here-and-there", ""),
        ("https://example.org/page#any", ""),
        ("missing.md", "no such file"),
        ("other.md#third-part", "no such anchor"),
        ("#nowhere", "no such anchor"),
        ("http://example.org", "not an https address"),
        ("https://example", "not an https address"),
        ("../../etc/passwd", "leads out of the folder"),
    ],
)
def test_checker(tmp_path, link, reason):
    """The checker itself: it can fail, in Markdown and in HTML."""
    (tmp_path / "other.md").write_text("# Other\n\n## The `second` part\n")
    (tmp_path / "page.md").write_text(
        f"# Here, and there\n\n[text]({link})\n\n```sh\n[a](b)\n```\n"
    )
    expected = [f"page.md: {link}: {reason}"] if reason else []
    assert links.broken(tmp_path, [tmp_path / "page.md"]) == expected

    (tmp_path / "page.html").write_text(f'<h1 id="here-and-there"></h1><a href="{link}">text</a>')
    expected = [f"page.html: {link}: {reason}"] if reason else []
    assert links.broken(tmp_path, [tmp_path / "page.html"]) == expected


def test_checker_of_loaded_files(tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<link rel="stylesheet" href="https://example.org/font.css"><a href="#">a</a>')
    assert links.broken(tmp_path, [page]) == []
    assert links.broken(tmp_path, [page], offline=True) == [
        "page.html: https://example.org/font.css: needs the network"
    ]


def test_build_fails_on_a_dead_link(tmp_path):
    """A warning of the generator is an error, for a file and for a heading that are not there."""
    settings = (ROOT / "docs/conf.py").read_text(encoding="utf-8")
    (tmp_path / "docs/static").mkdir(parents=True)
    (tmp_path / "docs/static/site.css").touch()
    (tmp_path / "docs/conf.py").write_text(settings.replace('"autoapi.extension", ', ""))
    (tmp_path / "index.md").write_text("# Title\n\n[a](#title) [b](#nowhere) [c](missing.md)\n")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", ".", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert "missing.md" in done.stderr
    assert "title" not in done.stderr
