"""The page of hosted Link: choose a bank and finish, or give up. In update mode it mends the item."""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qs

from engine.sandbox.institutions import listed
from engine.sandbox.linking import Link, Links
from engine.sandbox.refusals import Refusal

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:0;background:Canvas;color:CanvasText;color-scheme:light dark}
main{max-width:26rem;margin:8vh auto;padding:0 1.25rem}
h1{font-size:1.35rem;margin:0 0 .25rem}p{margin:.25rem 0 1.25rem;opacity:.8}
label{display:flex;gap:.75rem;align-items:center;padding:.75rem;border-radius:8px;
border:1px solid color-mix(in srgb,CanvasText 20%,Canvas);
margin:.5rem 0;cursor:pointer}label:focus-within{outline:2px solid Highlight}
button{font:inherit;padding:.6rem 1rem;border-radius:8px;border:1px solid color-mix(in srgb,CanvasText 25%,Canvas);
background:Canvas;color:CanvasText;cursor:pointer}button.main{background:#1f5fa8;border-color:#1f5fa8;color:#fff}
div.row{display:flex;gap:.75rem;margin-top:1.25rem}
"""

#: (status, headers, body)
Answer = tuple[int, list[tuple[str, str]], bytes]


def page(links: Links, path: str) -> Answer:
    """GET of a hosted address."""
    link = links.by_path(path)
    if link is None:
        return _html(404, "This link has expired", "<p>Start again from the program that opened it.</p>")
    links.open(link)
    return _html(200, *_form(link, path))


def submit(links: Links, path: str, action: str, form: bytes) -> Answer:
    """POST of the form: ``action`` is finish or exit."""
    link = links.by_path(path)
    if link is None:
        return _html(404, "This link has expired", "<p>Start again from the program that opened it.</p>")
    if action == "exit":
        links.give_up(link)
        return _leave(link, "Nothing was linked", "<p>You can close this page.</p>")
    try:
        fields = parse_qs(form.decode("utf-8", "replace"))
        institution = fields.get("institution", [""])[0]
        username = fields.get("username", ["user_good"])[0]
        item = links.finish(link, institution, username, fields.get("password", [None])[0])
    except Refusal as refusal:
        return _html(400, "That did not work", f"<p>{escape(refusal.message)}</p>")
    done = "works again" if link.item is not None else "is linked"
    return _leave(link, f"{item.institution.name} {done}", "<p>You can close this page.</p>")


def _form(link: Link, path: str) -> tuple[str, str]:
    client = escape(str(link.request.get("client_name", "")))
    if link.item is not None:
        title = f"Sign in again at {link.item.institution.name}"
        choices = f"<p>{client} cannot see your transactions until you do.</p>"
        go = "Sign in"
    else:
        title = "Choose your bank"
        boxes = "".join(
            f'<label><input type="radio" name="institution" value="{bank.institution_id}"'
            f"{' checked' if number == 0 else ''}><bdi>{escape(bank.name)}</bdi></label>"
            for number, bank in enumerate(listed())
        )
        choices = f"<p>Simulated banks: no password is asked for. {client} will see transactions.</p>{boxes}"
        go = "Link this bank"
    body = (
        f'<form method="post" action="/hosted/{escape(path)}/finish">{choices}<div class="row">'
        f'<button class="main" type="submit">{go}</button>'
        f'<button type="submit" formaction="/hosted/{escape(path)}/exit">Give up</button></div></form>'
    )
    return title, body


def _leave(link: Link, title: str, body: str) -> Answer:
    if link.redirect is not None:
        return 303, [("location", link.redirect)], b""
    return _html(200, title, body)


def _html(status: int, title: str, body: str) -> Answer:
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><main><h1>{escape(title)}</h1>{body}</main></html>"
    )
    return status, [("content-type", "text/html; charset=utf-8")], text.encode()
