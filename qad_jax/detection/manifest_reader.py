"""A program of its own that reads the content credentials of one file, and prints what they say.

`qad_jax.detection.credentials` starts it with the file as its standard input. It is a process of
its own because the reader is compiled code that gets a stranger's bytes: here the system limits its
memory and its time, a crash costs nothing but the answer, and once the file is open no further
descriptor can be had, so that neither a socket nor another file is ever opened. The library is told
to stay away from the network, too. It imports nothing of this package: it is started by its path,
from anywhere.

What it prints is one JSON object of bounded size, whatever the manifest holds.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from typing import Any

#: Bounds of the process: bytes of its address space, and seconds of processor time.
MEMORY, SECONDS = 2 << 30, 60
#: Bounds of what is told: characters of a text, and entries of a list.
LONGEST, MOST = 200, 20

SETTINGS = {
    "verify": {
        "verify_after_reading": True,
        "verify_trust": True,  # no list of trusted signers is given: no signer is on it
        "remote_manifest_fetch": False,
        "ocsp_fetch": False,
    },
    "core": {
        "allowed_network_hosts": [],
        # Identities are looked up at the addresses that a file names, whatever hosts are allowed.
        "decode_identity_assertions": False,
        "max_decompressed_manifest_size_in_mb": 32,
    },
}
# The last part of IPTC's names of what an image came from, and how it is told here; of two, the
# first says more.
_SOURCES = {
    "trainedAlgorithmicMedia": "made",
    "compositeWithTrainedAlgorithmicMedia": "edited",
}


def summary(store: Any) -> dict[str, Any]:
    """Takes from a manifest store what is told of it.

    Nothing is believed of its structure: what has another type than it should is as if it were not
    there.

    Args:
      store: The JSON object that the library makes of a manifest store.

    Returns:
      A dictionary of the fields `state` (as the library names it), `failures` (codes), `issuer`,
      `signer`, `time`, `tool`, `generative_ai` and `actions` of `credentials.Credentials`.
    """
    manifests = _dict(_dict(store).get("manifests"))
    label = _dict(store).get("active_manifest")
    active = _dict(manifests.get(label)) if isinstance(label, str) else {}
    others = [_dict(of) for name, of in manifests.items() if name != label]
    signature = _dict(active.get("signature_info"))
    results = _dict(_dict(_dict(store).get("validation_results")).get("activeManifest"))
    failures = [_text(_dict(one).get("code")) for one in _list(results.get("failure"))]
    sources = set(_sources(active))
    generative_ai = next((said for name, said in _SOURCES.items() if name in sources), None)
    if generative_ai is None and any(next(_sources(other), None) for other in others):
        generative_ai = "ingredient"
    return {
        "state": _text(_dict(store).get("validation_state")),
        "failures": list(dict.fromkeys(code for code in failures if code))[:MOST],
        "issuer": _text(signature.get("issuer")),
        "signer": _text(signature.get("common_name")),
        "time": _text(signature.get("time")),
        "tool": _tool(active),
        "generative_ai": generative_ai,
        "actions": [_named(action) for action in _actions(active)][:MOST],
    }


def _sources(manifest: dict[str, Any]) -> Iterator[str]:
    for action in _actions(manifest):
        source = action.get("digitalSourceType")
        name = source.rpartition("/")[2] if isinstance(source, str) else ""
        if name in _SOURCES:
            yield name


def _actions(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for assertion in _list(manifest.get("assertions")):
        name = _dict(assertion).get("label")
        # Of version 2 the name is c2pa.actions.v2, and a second list has __1 at its end.
        if isinstance(name, str) and name.startswith("c2pa.actions"):
            data = _dict(_dict(assertion).get("data"))
            yield from (_dict(action) for action in _list(data.get("actions")))


def _named(action: dict[str, Any]) -> str:
    """An action, with the software that did it where the manifest says so."""
    agent = action.get("softwareAgent")
    by = _text(agent) or _versioned(_dict(agent))
    name = _text(action.get("action")) or "unnamed"
    return f"{name} ({by})"[:LONGEST] if by else name


def _tool(manifest: dict[str, Any]) -> str | None:
    infos = (_versioned(_dict(info)) for info in _list(manifest.get("claim_generator_info")))
    return next(filter(None, infos), None) or _text(manifest.get("claim_generator"))


def _versioned(info: dict[str, Any]) -> str | None:
    parts = [_text(info.get("name")), _text(info.get("version"))]
    return " ".join(part for part in parts if part)[:LONGEST] or None


def _text(value: Any) -> str | None:
    return value[:LONGEST] or None if isinstance(value, str) else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def limit(kind: int, value: int) -> None:
    """Bounds what this process may take, from now on.

    Args:
      kind: Of the resource, such as `resource.RLIMIT_CPU`.
      value: The bound. Where the hard bound of the system is lower, that one stays.
    """
    _, hard = resource.getrlimit(kind)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bound, bound))


def _answer() -> dict[str, Any]:
    limit(resource.RLIMIT_AS, MEMORY)
    limit(resource.RLIMIT_CPU, SECONDS)
    limit(resource.RLIMIT_CORE, 0)
    try:
        import c2pa
    except ModuleNotFoundError:
        return {"missing": True}
    with c2pa.Context.from_dict(SETTINGS) as context:
        # Neither a socket nor a file can be opened from here on.
        limit(resource.RLIMIT_NOFILE, 0)
        try:
            with c2pa.Reader(None, sys.stdin.buffer, context=context) as reader:
                return summary(json.loads(reader.json()))
        except c2pa.C2paError.ManifestNotFound:
            return {}


def main() -> None:
    """Prints the answer as JSON: the summary; nothing in it where there is no manifest."""
    try:
        answer = _answer()
    except Exception as error:  # of compiled code, on bytes of a stranger
        answer = {"error": (str(error) or type(error).__name__)[:LONGEST]}
    print(json.dumps(answer, allow_nan=False))


if __name__ == "__main__":
    main()
