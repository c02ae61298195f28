"""Blanking of what may not leave the machine, over text that was written with the same care already.

Known secrets are taken out by their value, wherever they stand; those of other machines and times by their form.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from engine.errors import SecretError
from engine.profile import Profile
from engine.secrets import Keeper
from engine.settings import declared

HIDDEN: Final = "[hidden]"
_SHORTEST: Final = 4  # a shorter secret would blank half of every word, and hide nothing
_IN_URL: Final = re.compile(r"(?<=://)[^/@\s\"']*@")
_IN_DSN: Final = re.compile(r"\bpassword\s*=\s*('[^']*'|[^\s'&]+)", re.IGNORECASE)
_FORMS: Final = tuple(
    re.compile(form)
    for form in (
        r"\b(?:access|public|link|processor)-[a-z]+-[0-9A-Za-z-]{6,}",  # Plaid's tokens
        r"\bBearer\s+\S+",
        r"\beyJ[\w-]+\.[\w-]+\.[\w-]*",  # JWT
        r"\bv1\.[\w-]{40,}=*",  # a sealed token
        r"(?<![\w-])[\w-]{43}=?(?![\w-])",  # 32 bytes in base64: a master key
        r"(?<![A-Z2-7-])(?:[A-Z2-7]{4}-){8}[A-Z2-7]{4}(?![A-Z2-7-])",  # a recovery code
        r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",  # an address of mail
    )
)


class Blanks:
    """Blanks these values and all that has the form of a secret, in texts and in documents."""

    def __init__(self, secrets: Iterable[str] = (), names: Mapping[str, str] | None = None) -> None:
        """``names``: further words with what stands for them, such as the home folder."""
        found = {part for secret in secrets for part in _parts(secret)}
        self._values = sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True)
        self._names = {name: word for name, word in (names or {}).items() if len(name) >= _SHORTEST}

    def text(self, text: str) -> str:
        """The text without them."""
        for value in self._values:
            text = text.replace(value, HIDDEN)
        text = _IN_DSN.sub(f"password={HIDDEN}", _IN_URL.sub("", text))
        for form in _FORMS:
            text = form.sub(HIDDEN, text)
        for name, word in self._names.items():
            text = text.replace(name, word)
        return text

    def document(self, value: Any) -> Any:
        """Plain data with each of its texts blanked."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {str(key): self.document(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.document(entry) for entry in value]
        return value


def gather(profile: Profile, environ: Mapping[str, str]) -> Blanks:
    """The blanks of one profile: every secret that it or the environment holds, read as far as it can be read."""
    specs = {name: spec.metadata for name, spec in declared().items()}
    found = [environ.get(spec["env"], "") for spec in specs.values() if spec["secret"]]
    keeper = Keeper(profile, environ)
    with contextlib.suppress(SecretError):  # what the keyring does not give us, nothing of ours can show
        found += [keeper.get(name) or "" for name in keeper.names()]
    key_file = environ.get("SYNCDESK_MASTER_KEY_FILE")
    if key_file:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found.append(Path(key_file).read_text(encoding="utf-8"))
    for path in sorted(profile.root.glob("*.json")):
        found += _record(path)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        found.append((profile.root / "database.password").read_text(encoding="utf-8"))
    return Blanks(found, {str(Path.home()): "~", socket.gethostname(): "[host]"})


def without_password(url: str) -> str:
    """A URL's scheme, host, port and path: its user, password and query may be secret."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return HIDDEN
    if not parts.scheme or not parts.hostname:
        return HIDDEN
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def _record(path: Path) -> list[str]:
    """Token and URL of a file that a running engine or server leaves for its owner."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    fields = ("token", "url", "password") if isinstance(found, dict) else ()
    return [value for name in fields if isinstance(value := found.get(name), str)]


def _parts(secret: str) -> set[str]:
    """A secret whole, each of several master keys, and the password of a URL or connection string."""
    secret = secret.strip()
    found = {secret, *(part.strip() for part in secret.split(","))}
    with contextlib.suppress(ValueError):
        parts = urlsplit(secret)
        if parts.scheme and parts.password:
            found |= {parts.password, unquote(parts.password)}
        found |= {value for name, value in parse_qsl(parts.query) if name == "password"}
    found |= {match.strip("'") for match in _IN_DSN.findall(secret)}
    return found
