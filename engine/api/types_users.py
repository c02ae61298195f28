"""Users and the weight of their jobs, in the manner of `engine.api.types`; as free of imports, since the console
reads it."""

from __future__ import annotations

from msgspec import Struct


class User(Struct):
    """``weight``: so many of the user's jobs run before it is another one's turn. ``banks``: links not removed."""

    id: str
    name: str
    weight: int
    banks: int
    created_at: str


class UserPage(Struct):
    users: list[User]
    next: str | None = None


class UserChange(Struct):
    weight: int
