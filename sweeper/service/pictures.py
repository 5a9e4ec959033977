"""The routes of the live page's pictures: each a summary that stays small however many trials a sweep has."""

from __future__ import annotations

from fastapi import APIRouter

from sweeper.insight.pictures import Curves, History, Parallel, Slices, Standings
from sweeper.service.problems import responses
from sweeper.service.routes import AtDesk, Ref, Who

router = APIRouter(
    prefix="/api/v1/sweeps/{ref}/summary", tags=["pictures"], responses=responses(401, 404, 422, 429, 503)
)


@router.get("/history")
def history(ref: Ref, who: Who, desk: AtDesk) -> History:
    """The value of a sample of the trials, and every step of the best so far."""
    return desk.live.history(desk.find(who, ref))


@router.get("/curves")
def curves(ref: Ref, who: Who, desk: AtDesk) -> Curves:
    """The objective by epoch: the middle 80% of the trials, their median, and the best."""
    return desk.live.curves(desk.find(who, ref))


@router.get("/parallel")
def parallel(ref: Ref, who: Who, desk: AtDesk) -> Parallel:
    """The best trials and a sample of the others as lines through their parameters."""
    return desk.live.parallel(desk.find(who, ref))


@router.get("/slices")
def slices(ref: Ref, who: Who, desk: AtDesk) -> Slices:
    """Of every part of a parameter's range the median, the best, and the number of trials."""
    return desk.live.slices(desk.find(who, ref))


@router.get("/finals")
def finals(ref: Ref, who: Who, desk: AtDesk) -> Standings:
    """The finalists with their intervals."""
    return desk.live.finals(desk.find(who, ref))
