"""The pages there are, in the order of the rail; each is loaded and made when it is first opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gui.desk import Desk
from gui.linking import Linking
from gui.pages.base import Page
from gui.pages.overview import OverviewPage
from gui.rail import Entry


@dataclass(frozen=True)
class Made:
    """A page that can be made when it is first needed."""

    entry: Entry
    make: Callable[[], Page]


def pages(desk: Desk, linking: Linking) -> list[Made]:
    """The pages in the order of the rail."""

    def jobs() -> Page:
        from gui.pages.jobs import JobsPage

        return JobsPage(desk, linking)

    def banks() -> Page:
        from gui.pages.banks import BanksPage

        return BanksPage(desk, linking)

    def bills() -> Page:
        from gui.pages.bills import BillsPage

        return BillsPage(desk)

    def workers() -> Page:
        from gui.pages.workers import WorkersPage

        return WorkersPage(desk)

    def schedule() -> Page:
        from gui.pages.schedule import SchedulePage

        return SchedulePage(desk)

    def webhooks() -> Page:
        from gui.pages.webhooks import WebhooksPage

        return WebhooksPage(desk)

    return [
        Made(Entry("overview", "Overview", "nav-overview"), lambda: OverviewPage(desk, linking)),
        Made(Entry("jobs", "Jobs", "nav-jobs"), jobs),
        Made(Entry("banks", "Banks", "nav-banks", "Money"), banks),
        Made(Entry("bills", "Bills", "nav-bills"), bills),
        Made(Entry("workers", "Workers", "nav-workers", "Engine"), workers),
        Made(Entry("schedule", "Schedule", "nav-schedule"), schedule),
        Made(Entry("webhooks", "Webhooks", "nav-webhooks"), webhooks),
    ]
