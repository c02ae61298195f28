"""The detail of a webhook: who vouched for it, what came of it, its body, and sending it through once more."""

from __future__ import annotations

import json

import msgspec
from PySide6.QtCore import Signal
from PySide6.QtGui import QGuiApplication

from engine.api import types
from engine.api.types_webhooks import Webhook, WebhookDetail
from gui import words
from gui.client.api import Failure, Query, path
from gui.desk import Desk
from gui.kit.button import Button
from gui.kit.detail import Code, Facts, Pane
from gui.kit.table import Table
from gui.kit.text import Label
from gui.pages import webhooks_rows as rows

VOUCHED = {
    "jwt": "Plaid, by its signature",
    "hmac": "your relay, by its secret",
    "replay": "a person, who sent it again",
    "test": "a test of your own",
}
SHOWN = 8_000
"""Characters of a body that are laid out; the largest one has 262,144."""
NEVER = {
    "refused": "It was refused: nobody vouched for it, so it is never processed.",
    "received": "It waits to be processed already.",
}


class WebhookPane(Pane):
    """One webhook. ``done`` once it was sent again: its list has to let the new one in."""

    done = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__("Webhook")
        self._desk = desk
        self.webhook: Webhook | None = None
        self.query = Query(desk.client, WebhookDetail, "", self)
        self.query.arrived.connect(self._show)
        self.query.failed.connect(self._fail)
        self.monogram.hide()
        self.replay = Button("Replay", "undo")
        self.replay.clicked.connect(self._replay)
        self.bank = Button("Open bank", "nav-banks")
        self.bank.clicked.connect(self._open_bank)
        self.copy = Button("Copy details", "copy")
        self.copy.clicked.connect(self._copy)
        for button in (self.replay, self.bank, self.copy):
            self.acts.addWidget(button)
        self.acts.addStretch(1)
        self.replay.allow(False)
        self.bank.hide()
        self.what = Label("", "body", "text.secondary", wrap=True)
        self.section().addWidget(self.what)
        self.facts = Facts()
        self.section().addWidget(self.facts)
        self._body_box, body = self.part("Body as it came")
        self.body = Code()
        body.addWidget(self.body)
        self._again_box, again = self.part("Came or was sent again")
        self.again = Table(rows.REPEATS, 28, "Repeats", rows.sentence, clickable=True)
        self.again.clicked.connect(lambda place: self.open(self.again.rows[place]))
        again.addWidget(self.again)
        self.sections.addStretch(1)
        self._body_box.hide()
        self._again_box.hide()

    def open(self, webhook: Webhook) -> None:
        """Show a webhook: what the list knows at once, the rest when it comes."""
        if self.webhook is None or self.webhook.id != webhook.id:
            self._body_box.hide()
            self._again_box.hide()
        self._show_webhook(webhook)
        self.query.ask(path("webhooks", webhook.id))

    def open_id(self, webhook_id: str) -> None:
        """Show a webhook that no list knows yet."""
        self.query.ask(path("webhooks", webhook_id))

    def refresh(self) -> None:
        """Fetch it again."""
        if self.query.address:
            self.query.refresh()

    def link_changed(self) -> None:
        """What can be done changed."""
        if self.webhook is not None:
            self._show_actions(self.webhook)

    def send(self, webhook_id: str) -> None:
        """Put a webhook through the queue once more."""

        def worked(_answer: types.Done) -> None:
            self.done.emit()
            self.refresh()

        def refused(_failure: Failure) -> None:
            self.refresh()

        self._desk.act("POST", path("webhooks", webhook_id, "replay"), done=worked, failed=refused)

    def _replay(self) -> None:
        if self.webhook is not None:
            self.send(self.webhook.id)

    def _open_bank(self) -> None:
        if self.webhook is not None and self.webhook.item_id:
            self._desk.go.emit("banks", self.webhook.item_id)

    def _copy(self) -> None:
        detail: WebhookDetail | None = self.query.data
        if detail is not None:
            text = msgspec.json.format(msgspec.json.encode(detail), indent=2).decode()
            QGuiApplication.clipboard().setText(text)
            self._desk.say("The details are in the clipboard.")

    def _fail(self, failure: Failure) -> None:
        if failure.status == 404:
            self.what.say("This webhook is no longer kept.")
            self.replay.allow(False, failure.message)

    def _show(self, detail: WebhookDetail) -> None:
        self._show_webhook(detail.webhook)
        tries = detail.attempts if detail.attempts > 1 else 0
        self.facts.tell("Tries", words.count(tries) if tries else "")
        self.body.say(_pretty(detail.body))
        self._body_box.setVisible(bool(detail.body))
        self.again.show_rows(detail.repeated_by)
        self._again_box.setVisible(bool(detail.repeated_by))

    def _show_webhook(self, webhook: Webhook) -> None:
        self.webhook = webhook
        state, label = rows.STATES[webhook.state]
        self.title.say(rows.says(webhook))
        self.chip.show_state("job", state, label)
        self.subtitle.say(f"{rows.bank(webhook)} · {rows.received(webhook)}")
        self.what.say(rows.story(webhook))
        self.facts.tell("Received", words.day_and_time(webhook.received_at), words.exact(webhook.received_at))
        vouched = VOUCHED.get(webhook.verified_by or "", "nobody")
        self.facts.tell("Vouched for by", vouched)
        self.facts.tell("Says", "" if webhook.state == "refused" else rows.code(webhook))
        at = webhook.processed_at if webhook.state in {"processed", "unhandled"} else None
        self.facts.tell("Processed", words.day_and_time(at) if at else "", words.exact(at))
        self.facts.tell("Repeats", f"webhook {webhook.repeats}" if webhook.repeats else "")
        self.facts.tell("Id", webhook.id)
        self._show_actions(webhook)

    def _show_actions(self, webhook: Webhook) -> None:
        may, reason = self._desk.may()
        never = NEVER.get(webhook.state, "")
        self.replay.allow(may and not never, reason or never)
        self.replay.set_kind("filled" if webhook.state in {"failed", "unhandled"} else "outline")
        self.bank.setVisible(webhook.item_id is not None)


def _pretty(body: str) -> str:
    """JSON with its lines set apart; what is none, or was cut, as it is. Of a long one the beginning."""
    try:
        shown = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        shown = body
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}\n… The rest comes with Copy details."
