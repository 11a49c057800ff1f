"""Content credentials (C2PA): what a file says of its own origin, signed by whoever wrote it.

They stand beside a verdict and take no part in it. A manifest is a claim of the one who signed it.
An unbroken signature shows that the file is as it was when it was signed. It does not show that the
claim is true, nor that the signer has the name that the certificate says: whoever wants can make a
certificate with any name, and no list of trusted signers comes with this package. Most files have
no credentials, and most sites remove them.

The library that reads them is the extra `c2pa`. It runs in a process of its own, see
`manifest_reader`: without network, and within bounds of time and memory. Only what is inside of the
file is read. Credentials that are kept elsewhere, under an address in the file, are not looked for.

References:
  Coalition for Content Provenance and Authenticity, "Content Credentials: C2PA Technical
  Specification", version 2.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_builders.errors import describe, one_line
from qad_jax.detection.manifest_reader import LONGEST

TRUSTED, VALID, ALTERED, INVALID = "trusted", "valid", "altered", "invalid"
UNREADABLE, NOT_INSTALLED = "unreadable", "not_installed"
#: What each state means, in whole sentences.
MEANINGS = {
    TRUSTED: "The file is as it was when it was signed, and the signer is on a list of trust.",
    VALID: (
        "The file is as it was when it was signed. Who signed it was not checked: anybody can make "
        "a signature in any name."
    ),
    ALTERED: (
        "The file or its credentials were changed after they were signed: do not rely on what they "
        "say."
    ),
    INVALID: "The credentials do not pass the checks of C2PA: do not rely on what they say.",
    UNREADABLE: "Content credentials of the file cannot be read: {reason}.",
    NOT_INSTALLED: "The file holds content credentials; pip install 'qad-jax[c2pa]' reads them.",
}
#: What they say of generative AI, in words that go on after "they say that".
GENERATIVE_AI = {
    "made": "generative AI made the file",
    "edited": "generative AI made a part of the file",
    "ingredient": "generative AI made or edited something that the file was made from",
}
_STATES = {"Trusted": TRUSTED, "Valid": VALID, "Invalid": INVALID}
# These say only that no list of trusted signers was given.
_UNTRUSTED = frozenset(("signingCredential.untrusted", "timeStamp.untrusted"))
# The box that holds all manifests begins with a description: its type, and the UUID of C2PA.
_MARK = b"jumdc2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x00\x38\x9b\x71"
#: Bytes at each end of a file in which the mark is looked for. Most formats have it near the start,
#: and WebP at the end, before a manifest of up to some MB.
PART = 8 << 20
_READER = Path(__file__).with_name("manifest_reader.py")
# The process ends itself after its time of the processor. This is for one that waits.
_PATIENCE = 300.0


@dataclasses.dataclass(frozen=True)
class Credentials:
    """What the content credentials of a file say. Every text is one line of bounded length.

    Attributes:
      state: 'trusted', 'valid', 'altered', 'invalid', 'unreadable' or 'not_installed'.
      meaning: The state in plain words, with the reason where there is one.
      issuer: Organisation that the certificate of the signer names; None where it does not say.
      signer: Name in that certificate.
      time: When it was signed, if an authority for time stamps says so; ISO 8601.
      tool: Software that wrote the credentials.
      generative_ai: 'made' where they say that generative AI made the file, 'edited' where it made
        a part of it, 'ingredient' where it made or edited something that the file was made from;
        None where they say nothing of it.
      actions: What was done, such as 'c2pa.created', with the software in brackets.
      problems: Codes of C2PA of what is wrong with them.
    """

    state: str
    meaning: str
    issuer: str | None = None
    signer: str | None = None
    time: str | None = None
    tool: str | None = None
    generative_ai: str | None = None
    actions: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def read(path: str | Path) -> Credentials | None:
    """Reads the content credentials of a file. Whatever is wrong with them is an answer, too.

    Args:
      path: An image or a video.

    Returns:
      What they say; None where the file holds none.
    """
    try:
        with open(path, "rb") as file:
            return _of(_asked(file.fileno())) if _is_marked(file) else None
    except Exception as error:  # the verdict must not depend on it
        return _unreadable(describe(error))


def line(told: Mapping[str, Any] | None) -> str:
    """What the terminal says of credentials.

    Args:
      told: The fields of `Credentials`; None where there are none.

    Returns:
      One line; empty where there is nothing to say.
    """
    if told is None:
        return ""
    parts = [str(told["meaning"])]
    if told["generative_ai"]:
        parts.append(f"They say that {GENERATIVE_AI[told['generative_ai']]}.")
    if told["issuer"] or told["signer"]:
        parts.append(f"Signed in the name of {told['issuer'] or told['signer']}.")
    return one_line(f"content credentials: {' '.join(parts)}")


def _is_marked(file: Any) -> bool:
    """Whether a manifest begins in the first or the last part of a file."""
    if _MARK in file.read(PART):
        return True
    size = file.seek(0, os.SEEK_END)
    file.seek(max(PART - len(_MARK), size - PART))
    return _MARK in file.read(PART + len(_MARK))


def _asked(file: int) -> Any:
    """The answer of the process that reads the manifest of an open file.

    It neither starts in this folder nor looks there for modules: the library would load compiled
    code of its name from the folder that it is started in, which can be full of a stranger's files.
    """
    os.lseek(file, 0, os.SEEK_SET)
    try:
        done = subprocess.run(
            (sys.executable, "-P", "-B", str(_READER)),
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_READER.parent,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"that takes more than {_PATIENCE:g} s"}
    if done.returncode:
        return {"error": "their reader ended before it was done, as it does at its bounds"}
    return json.loads(done.stdout)


def _of(answer: dict[str, Any]) -> Credentials | None:
    if not answer:
        return None
    if "error" in answer:
        return _unreadable(answer["error"])
    if "missing" in answer:
        return Credentials(NOT_INSTALLED, MEANINGS[NOT_INSTALLED])
    problems = [code for code in answer["failures"] if code not in _UNTRUSTED]
    state = _STATES.get(answer["state"], INVALID)
    if state == INVALID and any(map(_is_of_a_change, problems)):
        state = ALTERED
    return Credentials(
        state,
        MEANINGS[state],
        **{name: _clean(answer[name]) for name in ("issuer", "signer", "time", "tool")},
        generative_ai=answer["generative_ai"],
        actions=tuple(_bounded(action) for action in answer["actions"]),
        problems=tuple(_bounded(code) for code in problems),
    )


def _is_of_a_change(code: str) -> bool:
    return code == "assertion.missing" or (
        code.endswith(".mismatch") and not code.startswith("timeStamp.")
    )


def _unreadable(reason: str) -> Credentials:
    reason = _bounded(reason).rstrip(".")
    return Credentials(UNREADABLE, MEANINGS[UNREADABLE].format(reason=reason))


def _clean(text: str | None) -> str | None:
    return None if text is None else _bounded(text) or None


def _bounded(text: str) -> str:
    """One line; escapes can make it longer, so that it is cut once more."""
    return one_line(text)[:LONGEST]
