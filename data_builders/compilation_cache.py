"""Where compiled programs are kept from one command to the next; imports no JAX."""

from __future__ import annotations

import contextlib
import os
import sys

from data_builders.errors import UserError
from data_builders.home import cache_folder

_LEAST_SECONDS = 0.1


def keep() -> None:
    """Keeps compiled programs between commands, unless the user has said where or that not.

    All commands share `$XDG_CACHE_HOME/qad_jax`, by default `~/.cache/qad_jax`. JAX finds the
    folder in the environment, so that the processes that a command starts use it, too.

    JAX itself keeps what took a second. The programs of the face detector are small and many: each
    takes a few tenths, and all of them some seconds in each command. Where there is no folder for
    them, each command compiles anew.
    """
    settings: dict[str, str | float] = {
        "jax_persistent_cache_min_compile_time_secs": _LEAST_SECONDS,
    }
    with contextlib.suppress(UserError):
        settings["jax_compilation_cache_dir"] = str(cache_folder())
    for name, value in settings.items():
        if name.upper() in os.environ:
            continue
        os.environ[name.upper()] = str(value)
        if "jax" in sys.modules:  # it has read the environment before
            sys.modules["jax"].config.update(name, value)
