"""Compiled programs are kept in one folder by all commands that compile."""

import os
import pwd
import subprocess
import sys

import pytest

from data_builders import build, compilation_cache, home, patches
from data_builders.errors import UserError
from data_builders.patches import jax_cache_entries
from qad_jax import main
from qad_jax.detection import command
from qad_jax.detection.server import work
from tests.commands import call
from tests.conftest import ROOT

NAMES = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")


def settings(code, **environment):
    """What JAX has for the two settings after some code, in a process of its own."""
    kept = {k: v for k, v in os.environ.items() if k not in (*NAMES, "XDG_CACHE_HOME")}
    told = (
        "import jax; print(jax.config.jax_compilation_cache_dir, "
        "jax.config.jax_persistent_cache_min_compile_time_secs)"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {told}"],
        cwd=ROOT,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


KEEP = "from data_builders.compilation_cache import keep; keep()"


@pytest.mark.checkout
def test_the_folder_is_that_of_the_user_or_beside_the_other_caches():
    assert settings(KEEP, XDG_CACHE_HOME="/a") == ["/a/qad_jax", "0.1"]
    assert settings(f"import jax; {KEEP}", HOME="/h") == ["/h/.cache/qad_jax", "0.1"]
    of_the_user = dict(zip(NAMES, ("/b", "3.5"), strict=True))
    assert settings(f"import jax; {KEEP}", **of_the_user) == ["/b", "3.5"]


def test_processes_that_are_started_find_it(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "jax", raising=False)  # the other tests have a cache of theirs
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compilation_cache.keep()
    assert [os.environ[name] for name in NAMES] == [str(tmp_path / "qad_jax"), "0.1"]


@pytest.mark.parametrize("value", ["", "caches", "./caches"])
def test_a_value_that_is_no_absolute_path_counts_as_none(monkeypatch, value):
    """As the XDG Base Directory Specification says; it was a folder where the command ran."""
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert str(home.cache_folder()) == "/h/.cache/qad_jax"


def test_a_user_without_a_folder_compiles_anew(monkeypatch):
    """As in a container whose user is a number."""
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    for name in (*NAMES, "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    with pytest.raises(UserError, match=r"no folder of the user is known .* set XDG_CACHE_HOME"):
        home.cache_folder()
    compilation_cache.keep()
    assert NAMES[0] not in os.environ


def test_an_entry_that_is_cut_off_is_written_anew(monkeypatch, tmp_path):
    """JAX asks for a write where it could read nothing. A write that fails leaves no part."""
    from jax._src.lru_cache import LRUCache

    with monkeypatch.context() as patch:
        patch.setattr(LRUCache, "put", LRUCache.put)
        jax_cache_entries.mend.__wrapped__()
        cache = LRUCache(str(tmp_path), max_size=-1)
        cache.put("key", b"whole")
        (path,) = tmp_path.iterdir()
        path.write_bytes(b"wh")
        cache.put("key", b"whole")
        assert cache.get("key") == b"whole"
        patch.setattr(os, "replace", {}.__getitem__)
        with pytest.raises(TypeError):
            cache.put("other", b"whole")
        assert list(tmp_path.iterdir()) == [path]


def test_another_jax_keeps_its_cache_as_it_is(monkeypatch):
    from jax._src.lru_cache import LRUCache

    before = LRUCache.put
    monkeypatch.setattr(patches.importlib.metadata, "version", lambda name: "0.13.0")
    jax_cache_entries.mend.__wrapped__()
    assert LRUCache.put is before


@pytest.mark.parametrize("job", ["build", "train", "detect", "serve"])
def test_a_command_that_compiles_uses_it(job, monkeypatch, tmp_path):
    """Each of these fails for another reason, but later."""
    seen = []
    monkeypatch.setattr(compilation_cache, "keep", lambda: seen.append(job))
    missing = tmp_path / "missing.safetensors"
    if job == "serve":
        with pytest.raises(work.UserError, match=r"missing\.safetensors"):
            work.load(str(missing))
        assert seen == [job]
        return
    image = tmp_path / "image.png"
    image.write_bytes(b"x")
    words, entry = {
        "build": (["no_such_dataset"], build.main),
        "train": (["--config=quickstart", f"--workdir={tmp_path}", "--step=3"], main.main),
        "detect": ([image, "--model", missing], command.main),
    }[job]
    told = call(*words, main=entry)
    assert told.status == 1
    assert told.err.startswith("error: ")
    assert seen == [job]
