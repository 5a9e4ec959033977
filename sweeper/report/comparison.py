"""Several sweeps beside each other as one HTML page."""

from __future__ import annotations

import time

from sweeper.insight.comparison import SweepComparison
from sweeper.insight.headline import duration
from sweeper.report.page import template_of
from sweeper.text import number


def comparison_page(found: SweepComparison) -> str:
    """The page: the answer first, then the winners, what was changed, and the effects. Every text is escaped."""
    template = template_of("comparison.html.j2", number=number, duration=duration)
    written = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return template.render(found=found, written=written)
