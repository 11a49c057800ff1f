"""The objects that the service sends, as its OpenAPI document describes them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """What went wrong with a request (RFC 9457)."""

    type: str = Field(description="the kind of problem, as a URN that programs can rely on")
    title: str
    status: int
    detail: str = Field(description="one plain sentence that says what to do")


class Progress(BaseModel):
    """How far a worker is with a file."""

    stage: Literal["reading", "scoring", "drawing"]
    done: int
    total: int | None = None
    remaining_seconds: float | None = None


class Job(BaseModel):
    """One file on its way to a verdict."""

    id: str
    name: str = Field(description="of the file as it was given, on one line and without folders")
    bytes: int
    state: Literal["queued", "running", "done", "failed"]
    position: int | None = Field(description="0 is next; null unless queued")
    progress: Progress | None
    reason: str = Field(description="why it failed; empty else")
    verdict: Literal["real", "fake", "inconclusive", "no_face", "error"] | None = Field(
        description="null before the job is done"
    )
    created: str = Field(description="ISO 8601, UTC")
    expires: str = Field(
        description="when the job is removed, or before that where the results fill the disk; "
        "of a job that is not done, the earliest time; ISO 8601, UTC"
    )


class Model(BaseModel):
    """The detector."""

    name: str
    version: str
    sha256: str


class Limits(BaseModel):
    """What a client may ask for."""

    most_bytes: int = Field(description="of one file")
    most_seconds: float = Field(description="of work on one file")
    most_queued: int = Field(description="jobs that wait, of all clients")
    kept_seconds: float = Field(description="after which a finished job is removed")
    stored: bool = Field(description="whether results outlive the service")
    token_needed: bool
    model: Model | None = Field(description="null until it is loaded")
    version: str = Field(description="of qad-jax")


class Health(BaseModel):
    """Whether files are judged."""

    status: Literal["ok", "starting", "broken"]
    workers: int = Field(description="processes that have loaded the model")
    queued: int


class Verdict(BaseModel):
    """What is said of a file: the JSON object of `qad-jax detect --json`."""

    file: str
    sha256: str | None
    verdict: Literal["real", "fake", "inconclusive", "no_face", "error"]
    probability: float | None
    quality: str | None
    reason: str
    false_positive_rate: dict[str, Any] | None
    false_negative_rate: dict[str, Any] | None
    faces: list[dict[str, Any]]
    media: dict[str, Any]
    model: dict[str, Any]
    versions: dict[str, Any]
