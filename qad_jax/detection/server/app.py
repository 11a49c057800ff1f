"""The service as an application: its addresses, and what each of them answers."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from qad_jax import __version__
from qad_jax.detection.server import guard, metrics, page_files, problems, schemas, uploads, work
from qad_jax.detection.server.jobs import QUEUED
from qad_jax.detection.server.problems import Problem
from qad_jax.detection.server.service import Service
from qad_jax.detection.server.settings import Settings
from qad_jax.detection.server.workers import Entry

_HTML = "text/html; charset=utf-8"
_JSON = "application/json"
_BEARER = HTTPBearer(auto_error=False)
_PROBLEM: dict[str, Any] = {"model": schemas.Problem, "content": {problems.MEDIA_TYPE: {}}}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [uploads.FIELD],
                "properties": {uploads.FIELD: {"type": "string", "format": "binary"}},
            }
        }
    },
}


def create(
    settings: Settings, *, entry: Entry = work.serve, gave_up: Callable[[], None] = lambda: None
) -> FastAPI:
    """Makes the application. Its workers start with it and end with it.

    Args:
      settings: Addresses and limits.
      entry: What a worker process runs, see `work.serve`.
      gave_up: Is called where no worker can be had; `app.state.service.pool.broken` says why.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = await asyncio.to_thread(Service, settings, entry, gave_up)
        app.state.service = service
        sweeping = asyncio.create_task(service.sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.to_thread(service.close)

    app = FastAPI(
        title="qad-jax",
        version=__version__,
        summary="Judges whether the faces of images and videos were manipulated.",
        docs_url=None,  # they would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        responses={421: _PROBLEM, 403: _PROBLEM},
    )
    _add_pages(app)
    _add_service(app, settings)
    _add_jobs(app, settings)

    @app.exception_handler(Problem)
    async def _problem(_: Request, problem: Problem) -> Response:
        return problem.response()

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> Response:
        kind = {404: "no-such-address", 405: "wrong-method"}.get(error.status_code, "refused")
        detail = f"{error.detail}: /openapi.json lists what can be asked for."
        return Problem(error.status_code, kind, detail, error.headers).response()

    @app.exception_handler(sqlite3.Error)
    async def _not_stored(_: Request, __: Exception) -> Response:
        return problems.not_stored().response()

    def count(method: str, route: str, status: int) -> None:
        app.state.service.numbers.requested(method, route, status)

    app.add_middleware(guard.Guard, settings=settings, count=count)
    return app


def service_of(request: Request) -> Service:
    """The service that a request has come to."""
    service: Service = request.app.state.service
    return service


Of = Annotated[Service, Depends(service_of)]


def _token_check(settings: Settings) -> list[Any]:
    """What an address depends on that wants the token; nothing where there is none."""
    token = settings.token
    if token is None:
        return []

    def check(shown: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]) -> None:
        guard.check_token(None if shown is None else shown.credentials, token)

    return [Depends(check)]


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def _page() -> Response:
        policy = {"Content-Security-Policy": guard.PAGE_POLICY}
        return Response(page_files.index(), 200, policy, _HTML)

    @app.get("/static/{name}", include_in_schema=False)
    def _static(name: str) -> Response:
        found = page_files.find(name)
        if found is None:
            raise Problem(404, "no-such-address", "There is no such file: open the page at /.")
        return Response(found[0], media_type=found[1])


def _add_service(app: FastAPI, settings: Settings) -> None:
    @app.get("/healthz", responses={503: {"model": schemas.Health}})
    def _health(service: Of, response: Response) -> schemas.Health:
        """Whether files are judged.

        It stays so while a worker is started anew: files wait for that. Else a file that ends its
        worker could make whoever asks end the service.
        """
        workers, queued = service.pool.alive(), service.jobs.counts()[QUEUED]
        if service.pool.model is not None and not service.pool.broken:
            return schemas.Health(status="ok", workers=workers, queued=queued)
        response.status_code = 503
        status: Any = "broken" if service.pool.broken else "starting"
        return schemas.Health(status=status, workers=workers, queued=queued)

    @app.get(
        "/metrics",
        dependencies=_token_check(settings),
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, 401: _PROBLEM},
    )
    def _metrics(service: Of) -> Response:
        """Numbers for Prometheus."""
        return Response(service.numbers.text(), media_type=metrics.MEDIA_TYPE)

    @app.get("/v1/limits")
    def _limits(service: Of) -> schemas.Limits:
        """What a client may ask for."""
        model = service.pool.model
        return schemas.Limits(
            most_bytes=settings.most_bytes,
            most_seconds=settings.most_seconds,
            most_queued=settings.most_queued,
            kept_seconds=settings.kept_seconds,
            stored=settings.store is not None,
            token_needed=settings.token is not None,
            model=None if model is None else schemas.Model(**model),
            version=__version__,
        )


def _add_jobs(app: FastAPI, settings: Settings) -> None:
    token = _token_check(settings)
    missing: dict[int | str, dict[str, Any]] = {401: _PROBLEM, 404: _PROBLEM}

    @app.post(
        "/v1/jobs",
        status_code=202,
        dependencies=token,
        response_model=schemas.Job,
        openapi_extra={"requestBody": _BODY},
        responses=dict.fromkeys((400, 401, 408, 413, 415, 429, 507), _PROBLEM),
    )
    async def _submit(request: Request, response: Response, service: Of) -> dict[str, Any]:
        """Sends a file, and gets a job."""
        job = await service.submit(request)
        response.headers["Location"] = f"/v1/jobs/{job.id}"
        return service.told(job)

    @app.get("/v1/jobs/{job}", dependencies=token, response_model=schemas.Job, responses=missing)
    def _job(job: str, service: Of) -> dict[str, Any]:
        """How far a job is."""
        return service.told(service.jobs.get(job))

    @app.get(
        "/v1/jobs/{job}/verdict",
        dependencies=token,
        response_class=Response,
        responses={200: {"model": schemas.Verdict}, **missing, 409: _PROBLEM},
    )
    def _verdict(job: str, service: Of) -> Response:
        """The JSON object of `qad-jax detect --json`."""
        return Response(service.result(job, service.store.verdict_object), media_type=_JSON)

    @app.get(
        "/v1/jobs/{job}/page",
        dependencies=token,
        response_class=Response,
        responses={200: {"content": {"text/html": {}}}, **missing, 409: _PROBLEM},
    )
    def _verdict_page(job: str, service: Of) -> Response:
        """The verdict as a page for people: it needs no script and loads nothing."""
        policy = {"Content-Security-Policy": guard.VERDICT_POLICY}
        return Response(service.result(job, service.store.page), 200, policy, _HTML)

    @app.delete(
        "/v1/jobs/{job}",
        status_code=204,
        dependencies=token,
        responses={**missing, 507: _PROBLEM},
    )
    def _delete(job: str, service: Of) -> Response:
        """Removes a job with its file, verdict and page; stops it if it is running."""
        service.jobs.delete(job)
        return Response(status_code=204)
