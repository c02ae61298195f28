"""Link tokens and hosted Link sessions: what /link/token/create starts and the bank's own page finishes."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from engine import clock
from engine.sandbox.bank import Bank
from engine.sandbox.items import Item
from engine.sandbox.refusals import Refusal

LINK_TOKEN_S = 4 * 3600
UPDATE_TOKEN_S = 30 * 60
HOSTED_S = 30 * 60


@dataclass
class Session:
    """One run of the page. ``status`` is SUCCESS or EXITED once it is finished."""

    link_session_id: str
    started_at: datetime
    finished_at: datetime | None = None
    status: str | None = None
    items: list[Item] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Link:
    """A link token. ``item`` is set in update mode; ``path`` is the last part of the hosted address."""

    link_token: str
    request: dict[str, Any]
    created_at: datetime
    expires_at: datetime
    item: Item | None
    path: str | None
    hosted_until: datetime | None
    sessions: list[Session] = field(default_factory=list)

    @property
    def redirect(self) -> str | None:
        """Where the browser is sent at the end, also when the person gives up."""
        uri = self.request.get("hosted_link", {}).get("completion_redirect_uri")
        return uri if isinstance(uri, str) and uri else None


class Links:
    """All link tokens of a bank. They are not kept over a restart of the bank; nor are Plaid's for long."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._links: dict[str, Link] = {}
        self._by_path: dict[str, Link] = {}

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer /link/token/create.

        Raises:
            Refusal: neither products nor an access token, no user, or an unknown token or institution.
        """
        token = request.get("access_token")
        item = self._bank.item(token) if token else None
        if item is None and not request.get("products"):
            raise Refusal("MISSING_FIELDS", "the following required fields are missing: products")
        if item is not None and request.get("products"):
            raise Refusal("INVALID_FIELD", "products must not be set in update mode")
        if not request.get("user") and not request.get("user_id"):
            raise Refusal("MISSING_FIELDS", "the following required fields are missing: user")
        now = clock.now()
        hosted = request.get("hosted_link")
        lifetime = (hosted or {}).get("url_lifetime_seconds") or HOSTED_S
        expires = now + timedelta(seconds=UPDATE_TOKEN_S if item is not None else LINK_TOKEN_S)
        link = Link(
            link_token=f"link-sandbox-{uuid.uuid4()}",
            request=request,
            created_at=now,
            expires_at=max(expires, now + timedelta(seconds=lifetime)) if hosted is not None else expires,
            item=item,
            path=secrets.token_urlsafe(18) if hosted is not None else None,
            hosted_until=now + timedelta(seconds=lifetime) if hosted is not None else None,
        )
        self._links[link.link_token] = link
        answer = {"link_token": link.link_token, "expiration": clock.iso(link.expires_at)}
        if link.path is not None:
            self._by_path[link.path] = link
            answer["hosted_link_url"] = f"{self._bank.options.hosted_base}/hosted/{link.path}"
        return answer

    def get(self, link_token: str) -> dict[str, Any]:
        """Answer /link/token/get.

        Raises:
            Refusal: there is no such token.
        """
        link = self._links.get(link_token)
        if link is None:
            raise Refusal("INVALID_LINK_TOKEN")
        request = link.request
        return {
            "link_token": link.link_token,
            "created_at": clock.iso(link.created_at),
            "expiration": clock.iso(link.expires_at),
            "link_sessions": [_session_view(session) for session in link.sessions],
            "metadata": {
                "initial_products": request.get("products") or [],
                "webhook": request.get("webhook"),
                "country_codes": request["country_codes"],
                "language": request["language"],
                "redirect_uri": request.get("redirect_uri"),
                "client_name": request["client_name"],
            },
        }

    def by_path(self, path: str) -> Link | None:
        """The link of a hosted address that is still valid."""
        link = self._by_path.get(path)
        if link is None or link.hosted_until is None or clock.now() > link.hosted_until:
            return None
        return link

    def open(self, link: Link) -> Session:
        """The page was opened: its unfinished session, or a new one."""
        if link.sessions and link.sessions[-1].finished_at is None:
            return link.sessions[-1]
        session = Session(str(uuid.uuid4()), clock.now())
        link.sessions.append(session)
        _event(session, "OPEN", {})
        return session

    def finish(self, link: Link, institution_id: str, username: str = "user_good", password: object = None) -> Item:
        """The person linked a bank, or mended the item in update mode.

        Raises:
            Refusal: the institution is unknown, or the item was removed meanwhile.
        """
        session = self.open(link)
        if link.item is not None:
            item = link.item
            if item.removed:
                raise Refusal("ITEM_NOT_FOUND")
            self._bank.repair(item, by_itself=False)
        else:
            transactions = link.request.get("transactions") or {}
            item = self._bank.create_item(
                institution_id,
                link.request.get("products"),
                webhook=link.request.get("webhook"),
                username=username,
                password=password,
                days=transactions.get("days_requested", 90),
            )
        session.items.append(item)
        institution = {"institution_id": item.institution.institution_id, "institution_name": item.institution.name}
        _event(session, "SELECT_INSTITUTION", institution)
        _event(session, "HANDOFF", institution)
        if link.item is None:
            self._send(link, session, "ITEM_ADD_RESULT", {"public_token": item.opening.public_token})
        self._end(link, session, "SUCCESS")
        return item

    def give_up(self, link: Link) -> None:
        """The person closed the page without linking."""
        session = self.open(link)
        _event(session, "EXIT", {"exit_status": "requires_credentials"})
        self._end(link, session, "EXITED")

    def _end(self, link: Link, session: Session, status: str) -> None:
        session.status, session.finished_at = status, clock.now()
        tokens = [] if link.item is not None else [item.opening.public_token for item in session.items]
        fields: dict[str, Any] = {"status": status}
        if tokens:
            fields |= {"public_token": tokens[0], "public_tokens": tokens}
        self._send(link, session, "SESSION_FINISHED", fields)

    def _send(self, link: Link, session: Session, code: str, fields: dict[str, Any]) -> None:
        about = {"link_session_id": session.link_session_id, "link_token": link.link_token}
        url = link.request.get("webhook") or (link.item.webhook if link.item is not None else None)
        self._bank.send(url, "LINK", code, {**about, **fields})


def _event(session: Session, name: str, about: dict[str, str]) -> None:
    session.events.append(
        {
            "event_id": str(uuid.uuid4()),
            "timestamp": clock.iso(clock.now()),
            "event_name": name,
            "event_metadata": {**about, "request_id": secrets.token_hex(8)},
        }
    )


def _session_view(session: Session) -> dict[str, Any]:
    view: dict[str, Any] = {
        "link_session_id": session.link_session_id,
        "started_at": clock.iso(session.started_at),
        "finished_at": clock.iso(session.finished_at) if session.finished_at else None,
        "events": session.events,
    }
    if session.status == "SUCCESS":
        added = [_added(item) for item in session.items]
        view["results"] = {
            "item_add_results": added,
            "cra_item_add_results": [],
            "cra_update_results": [],
            "bank_income_results": [],
            "payroll_income_results": [],
            "document_income_results": None,
        }
        view["on_success"] = {
            "public_token": added[0]["public_token"],
            "metadata": {
                "institution": added[0]["institution"],
                "accounts": added[0]["accounts"],
                "link_session_id": session.link_session_id,
                "transfer_status": None,
            },
        }
    elif session.status == "EXITED":
        metadata = {"status": "requires_credentials", "link_session_id": session.link_session_id}
        view["on_exit"] = view["exit"] = {"error": None, "metadata": metadata}
    return view


def _added(item: Item) -> dict[str, Any]:
    return {
        "public_token": item.opening.public_token,
        "accounts": [
            {
                "id": account.account_id,
                "name": account.name,
                "mask": account.mask,
                "type": account.type,
                "subtype": account.subtype,
                "verification_status": None,
                "class_type": None,
            }
            for account in item.accounts
        ],
        "institution": {"institution_id": item.institution.institution_id, "name": item.institution.name},
    }
