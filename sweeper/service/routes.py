"""The routes of sweeps and their trials."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from sweeper.errors import SpecError
from sweeper.insight.comparison import SweepComparison, comparison_from_json
from sweeper.insight.results import best_trials, run_summary
from sweeper.records import Labels
from sweeper.running.custody import label
from sweeper.service import sse
from sweeper.service.answers import (
    SWEEP_EXAMPLE,
    Best,
    Edit,
    Flows,
    Reports,
    Sweep,
    Sweeps,
    Trials,
    TrialWithHistory,
    attempt_object,
    exact,
    flow_object,
    reports_object,
    trial_object,
)
from sweeper.service.auth import Authenticator, Identity
from sweeper.service.desk import Desk
from sweeper.service.own_process import answer_of, model_of
from sweeper.service.problems import TooLarge, responses
from sweeper.service.submission import hide_data_folder, parse_body
from sweeper.spec.own_code import code_of
from sweeper.states import SweepState, TrialState

BODY_BYTES = 1 << 20  # of a sweep file
PAGE = 1000  # rows of one answer at most
LOG_BYTES = 1 << 20  # of what a trial has printed, in one answer
_bearer = HTTPBearer(auto_error=False, description="A token made with `sweeper token create`.")


def caller(request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Identity:
    """The identity of a request's token.

    Raises:
        Unauthorized: no token, or a wrong one.
        TooManyFailures: too many wrong ones from this address.
    """
    authenticator: Authenticator = request.app.state.authenticator
    address = request.client.host if request.client is not None else "unknown"
    return authenticator.identify(request.headers.get("authorization"), address)


Who = Annotated[Identity, Depends(caller)]
Ref = Annotated[str, InPath(description="A sweep's id, the first letters of it, or its name.", max_length=200)]
Limit = Annotated[int, Query(ge=1, le=PAGE)]
Requested = Annotated[int | None, Query(ge=1, le=1_000_000, description="With `resume`: the number of trials in all.")]
Offset = Annotated[int, Query(ge=0, le=10**9)]
SWEEP_FILE = {
    "name": "digits-mlp",
    "dataset": {"name": "digits"},
    "space": "mlp",
    "training": {"epochs": 20},
    "search": {"trials": 64, "sampler": "tpe", "seed": 0},
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object"}, "example": SWEEP_FILE},
            "application/yaml": {
                "schema": {"type": "string"},
                "example": "dataset: {name: digits}\nspace: mlp\nsearch: {trials: 64}\n",
            },
        },
    }
}


def desk(request: Request) -> Desk:
    """The application's desk."""
    found: Desk = request.app.state.desk
    return found


AtDesk = Annotated[Desk, Depends(desk)]
router = APIRouter(prefix="/api/v1", tags=["sweeps"], responses=responses(401, 404, 422, 429, 503))


def found_and_changed(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Errors of a route that changes a sweep."""
    return responses(403, 409, *statuses)


@router.post(
    "/sweeps",
    status_code=201,
    response_model=Sweep,
    openapi_extra=BODY,
    responses={
        **responses(400, 403, 413),
        200: {"model": Sweep, "description": "The key was used before, for the same sweep file."},
        201: {"description": "The sweep is queued.", "content": {"application/json": {"example": SWEEP_EXAMPLE}}},
    },
)
async def submit(
    request: Request,
    who: Who,
    desk: AtDesk,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=200,
            description="A repeated key returns the first call's sweep.",
        ),
    ] = None,
    priority: Annotated[int, Query(ge=-100, le=100, description="Sweeps of higher priority run first.")] = 0,
) -> Response:
    """Submit a sweep file, as JSON or YAML."""
    who.require_writing()
    body = await read_body(request, BODY_BYTES)
    data = parse_body(body, request.headers.get("content-type", ""))
    record, new = await run_in_threadpool(desk.submit, who, data, key, priority)
    return JSONResponse(await run_in_threadpool(desk.show, record), 201 if new else 200)


async def read_body(request: Request, limit: int) -> bytes:
    """A request's body.

    Raises:
        TooLarge: it has more than ``limit`` bytes.
    """
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the request has more than {limit:,} bytes", key="body", remedy="Send a smaller sweep file")
        parts.append(chunk)
    return b"".join(parts)


@router.get("/sweeps", response_model=Sweeps)
def list_sweeps(
    who: Who,
    desk: AtDesk,
    owner: Annotated[str | None, Query(max_length=64)] = None,
    state: SweepState | None = None,
    name: Annotated[str | None, Query(max_length=100)] = None,
    limit: Limit = 100,
    offset: Offset = 0,
    spec: Annotated[bool, Query(description="Whether each comes with its sweep file.")] = True,
) -> Response:
    """The sweeps that you may see, newest first."""
    if who.sees is not None and owner not in (None, who.sees):
        return JSONResponse({"sweeps": [], "total": 0})
    wanted: dict[str, Any] = {"owner": who.sees or owner, "state": state, "name": name}
    rows = [desk.show(record, spec) for record in desk.ledger.sweeps(**wanted, limit=limit, offset=offset)]
    return JSONResponse({"sweeps": rows, "total": desk.ledger.count_sweeps(**wanted)})


@router.get("/sweeps/{ref}", response_model=Sweep)
def get_sweep(ref: Ref, who: Who, desk: AtDesk) -> Response:
    """One sweep."""
    return JSONResponse(desk.show(desk.find(who, ref)))


@router.patch("/sweeps/{ref}", response_model=Sweep, responses=found_and_changed())
def edit_sweep(ref: Ref, edit: Edit, who: Who, desk: AtDesk) -> Response:
    """Change the number of trials or the priority of a sweep that has not ended, or the labels of any sweep."""
    record = desk.own(who, ref)
    if edit.requested is not None or edit.priority is not None:
        record = desk.steer(who).change(record, edit.requested, edit.priority)
    labels = Labels(edit.note, None if edit.tags is None else tuple(edit.tags), edit.archived)
    return JSONResponse(desk.show(label(desk.ledger, record, labels)))


@router.delete("/sweeps/{ref}", status_code=204, response_class=Response, responses=found_and_changed(500))
def delete_sweep(ref: Ref, who: Who, desk: AtDesk) -> Response:
    """Delete a sweep that does not run, with its runs in MLflow."""
    desk.delete(desk.own(who, ref), who)
    return Response(status_code=204)


@router.post(
    "/sweeps/{ref}/{verb}", status_code=202, response_model=Sweep, responses=found_and_changed(), name="change"
)
def change(
    ref: Ref, verb: Literal["stop", "pause", "resume", "retry"], who: Who, desk: AtDesk, requested: Requested = None
) -> Response:
    """Stop, pause or resume a sweep, or run its failed trials again. It answers when that has begun.

    A sweep that is resumed with ``requested`` goes on to that many trials in all, also when it is complete.
    """
    record = desk.own(who, ref)
    if requested is not None and verb != "resume":
        raise SpecError(f"{verb} changes no number of trials", key="requested", remedy="Leave it out")
    match verb:
        case "stop":
            record = desk.steer(who).end(record, SweepState.STOPPED)
        case "pause":
            record = desk.steer(who).end(record, SweepState.PAUSED)
        case "resume":
            record = desk.steer(who).resume(record, requested)
        case "retry":
            desk.steer(who).retry(record)
            record = desk.find(who, record.sweep)
    return JSONResponse(desk.show(record), 202)


@router.get("/sweeps/{ref}/trials", response_model=Trials)
def list_trials(
    ref: Ref,
    who: Who,
    desk: AtDesk,
    state: TrialState | None = None,
    sort: Annotated[str | None, Query(max_length=100, description="A field or metric; -NAME for descending.")] = None,
    limit: Limit = 500,
    offset: Offset = 0,
) -> Response:
    """A sweep's trials."""
    record = desk.find(who, ref)
    trials = desk.ledger.trials(record.sweep, state, sort=sort, limit=limit, offset=offset)
    total = record.requested if state is None else record.counts.get(state, 0)
    return JSONResponse({"sweep": record.sweep, "trials": [trial_object(t) for t in trials], "total": total})


@router.get("/sweeps/{ref}/trials/{number}", response_model=TrialWithHistory)
def get_trial(ref: Ref, number: Annotated[int, InPath(ge=0, le=10**9)], who: Who, desk: AtDesk) -> Response:
    """One trial with its history."""
    record = desk.find(who, ref)
    trial = desk.ledger.trial(record.sweep, number)
    history = [attempt_object(a) for a in desk.ledger.attempts(record.sweep, number)]
    return JSONResponse({**trial_object(trial), "history": history})


@router.get(
    "/sweeps/{ref}/trials/{number}/log",
    response_class=Response,
    responses={200: {"description": "A part of it.", "content": {"application/octet-stream": {}}}},
)
def log(
    ref: Ref,
    number: Annotated[int, InPath(ge=0, le=10**9)],
    who: Who,
    desk: AtDesk,
    begin: Annotated[int, Query(ge=0, le=10**12, description="The first byte wanted.")] = 0,
) -> Response:
    """What a trial of the user's own objective has printed, a megabyte at most."""
    record = desk.find(who, ref)
    desk.ledger.trial(record.sweep, number)
    return Response(desk.printed(record, number, begin)[:LOG_BYTES], media_type="application/octet-stream")


@router.get("/sweeps/{ref}/best", response_model=Best)
def best(ref: Ref, who: Who, desk: AtDesk, k: Limit = 1) -> Response:
    """The best complete trials."""
    record = desk.find(who, ref)
    found = best_trials(desk.ledger, record, k)
    return JSONResponse({"sweep": record.sweep, "best": [trial_object(t) for t in found]})


@router.get("/sweeps/{ref}/reports", response_model=Reports)
def reports(ref: Ref, who: Who, desk: AtDesk, number: Annotated[int | None, Query(ge=0, le=10**9)] = None) -> Response:
    """The metrics of every epoch, of one trial or of all."""
    record = desk.find(who, ref)
    return JSONResponse({"reports": reports_object(desk.ledger.reports(record.sweep, number))})


@router.get("/sweeps/{ref}/flow", response_model=Flows)
def flow(ref: Ref, who: Who, desk: AtDesk, number: Annotated[int | None, Query(ge=0, le=10**9)] = None) -> Response:
    """The gradient flow of every layer and epoch, of one trial or of all that have any."""
    record = desk.find(who, ref)
    return JSONResponse({"flow": flow_object(desk.ledger.flow(record.sweep, number))})


@router.get("/sweeps/{ref}/summary", response_model=dict[str, Any])
def summary(ref: Ref, who: Who, desk: AtDesk) -> Response:
    """What ``run --json`` prints at the end."""
    record = desk.find(who, ref)
    return JSONResponse(exact(run_summary(desk.ledger, record.sweep, desk.mlflow_url or "")))


@router.get(
    "/sweeps/{ref}/events",
    response_class=StreamingResponse,
    responses={200: {"description": "Server-sent events.", "content": {"text/event-stream": {}}}},
)
async def events(
    ref: Ref,
    who: Who,
    desk: AtDesk,
    after: Annotated[int, Query(ge=0, le=10**12, description="Continue after this line of the log.")] = 0,
    last: Annotated[str | None, Header(alias="Last-Event-ID", max_length=20)] = None,
) -> Response:
    """What happens to a sweep, live, until it has ended or is paused. ``id`` is the line number in its log."""
    record = await run_in_threadpool(desk.find, who, ref)
    seen = int(last) if last is not None and last.isascii() and last.isdigit() else after
    stream = sse.follow(desk.events_file(record), seen, lambda: desk.over(record.sweep))
    return StreamingResponse(stream, media_type="text/event-stream", headers=sse.HEADERS)


@router.get("/sweeps/{ref}/report", response_class=HTMLResponse, responses={200: {"description": "One HTML file."}})
def report(ref: Ref, who: Who, desk: AtDesk) -> Response:
    """The sweep's report."""
    from sweeper.report.gather import make_report

    record = desk.find(who, ref)
    folder = desk.settings.home / "sweeps" / record.sweep
    file, _ = make_report(desk.ledger, folder, record.sweep, train=False)
    text = hide_data_folder(record, file.read_text(encoding="utf-8"))
    return HTMLResponse(text, headers={"Content-Security-Policy": "sandbox"})


@router.get(
    "/sweeps/{ref}/model.zip",
    response_class=Response,
    responses={**responses(409), 200: {"description": "The winner's model.", "content": {"application/zip": {}}}},
)
def model(ref: Ref, who: Who, desk: AtDesk) -> Response:
    """What ``export --model`` writes: the winner with scripts that predict and retrain."""
    from sweeper.export.writing import to_model

    record = desk.find(who, ref)
    with tempfile.TemporaryDirectory(prefix="sweeper-model-") as folder:
        at = Path(folder) / "model"
        if code_of(record.spec):
            answer = model_of(desk.settings, record.sweep, at)
        else:
            answer = to_model(desk.ledger, record.sweep, str(at))
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted((Path(folder) / "model").rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(Path(folder) / "model"))
    headers = {
        "Content-Disposition": f'attachment; filename="{record.sweep}-model.zip"',
        "X-Sweeper-Trial": str(answer["trial"]),
        "X-Sweeper-Metrics": json.dumps(exact(answer["metrics"])),
    }
    return Response(packed.getvalue(), media_type="application/zip", headers=headers)


@router.get("/comparison", responses=responses(409))
def comparison(
    who: Who,
    desk: AtDesk,
    sweep: Annotated[list[str], Query(min_length=2, max_length=8, description="The sweeps, two or more.")],
    seeds: Annotated[int, Query(ge=0, le=20, description="How many seeds the winners are trained on.")] = 5,
) -> SweepComparison:
    """What ``compare`` prints: changes, the winners on common test rows, and which effects agree."""
    from sweeper.running.comparing import compare_sweeps

    records = [desk.find(who, ref) for ref in sweep]
    ids = [record.sweep for record in records]
    if any(code_of(record.spec) for record in records):
        return comparison_from_json(answer_of(desk.settings, ("compare", *ids, "--seeds", str(seeds), "--json")))
    return compare_sweeps(desk.ledger, desk.settings.home, ids, seeds)
