"""Debian's Redis 7 with every door that a broker of the person's own may have: a password, an ACL user, TLS.

The ACL user has what `docs/broker.md` says and nothing else; the CA is made here, so nobody else trusts it.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import re
import shutil
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engine.host.binaries_process import free_port
from engine.host.valkey import Valkey
from engine.profile import Profile

Door = Literal["password", "acl", "tls"]
DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "broker.md"
PASSWORD = "p@ss:w/rd #1"  # as it may be: every one of these must be quoted in a URL
_DAY = datetime.timedelta(days=1)


def acl_rule(user: str, password: str, namespace: str) -> str:
    """The documented line with a name, a password and a namespace filled in, as a server's file has it."""
    found = re.search(r"^ACL SETUSER (.+)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, "the document has no such line"
    digest = "#" + hashlib.sha256(password.encode()).hexdigest()
    words = found[1].replace(">PASSWORD", digest).replace("{syncdesk}", "{" + namespace + "}").split()
    return " ".join([user, *words[1:]])


class Authority:
    """A certificate authority of one test run, and one server's certificate by it."""

    def __init__(self, folder: Path, *names: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ca, self.cert, self.key = folder / "ca.pem", folder / "server.pem", folder / "server.key"
        ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca_name = _name("Syncdesk test CA")
        limits = x509.BasicConstraints(ca=True, path_length=0)
        ca = _certificate(ca_name, ca_name, ca_key.public_key()).add_extension(limits, critical=True)
        where = x509.SubjectAlternativeName([_general(name) for name in names])
        cert = _certificate(_name(names[0]), ca_name, key.public_key()).add_extension(where, critical=False)
        self.ca.write_bytes(_pem(ca.sign(ca_key, hashes.SHA256())))
        self.cert.write_bytes(_pem(cert.sign(ca_key, hashes.SHA256())))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _certificate(name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key)
    return made.serial_number(x509.random_serial_number()).not_valid_before(now - _DAY).not_valid_after(now + _DAY)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


class Redis7(Valkey):
    """The server, launched as the engine launches its own; `url` is the way through ``door``.

    ``namespace`` is what the ACL user may touch (``*`` where tests choose theirs); ``names`` are the certificate's;
    ``cluster``: it is a node of one; ``more`` are further lines of its configuration.
    """

    def __init__(
        self,
        profile: Profile,
        door: Door = "password",
        *,
        namespace: str = "*",
        names: tuple[str, ...] = ("127.0.0.1", "localhost"),
        cluster: bool = False,
        more: str = "",
        durable: bool = False,
    ) -> None:
        super().__init__(profile, program=Path(shutil.which("redis-server") or "redis-server"), durable=durable)
        self.door = door
        self.authority = Authority(profile.root / "tls", *names)
        self.user_rule = acl_rule("syncdesk", PASSWORD, namespace)
        self._cluster = cluster
        self._more = more
        self._tls_port: int | None = None

    def url_by(self, door: Door, host: str = "127.0.0.1") -> str:
        """The URL through one of its doors."""
        admin, port = f":{quote(self._password, safe='')}", self._port
        if door == "acl":
            return f"redis://syncdesk:{quote(PASSWORD, safe='')}@{host}:{port}/0"
        if door == "tls":
            return f"rediss://{admin}@{host}:{self._tls_port}/0?ssl_ca_certs={quote(str(self.authority.ca))}"
        return f"redis://{admin}@{host}:{port}/0"

    @property
    def url(self) -> str:
        return self.url_by(self.door)

    def _try(self, deadline: float, keep_port: bool) -> bool:
        if not keep_port:  # one of its ports was taken meanwhile
            self._tls_port = None
        return super()._try(deadline, keep_port)

    def _config(self) -> str:
        if self._tls_port is None:
            self._tls_port = free_port()
        made = self.authority
        tls = f'tls-port {self._tls_port}\ntls-cert-file "{made.cert}"\ntls-key-file "{made.key}"\n'
        tls += f'tls-ca-cert-file "{made.ca}"\ntls-auth-clients no\n'
        cluster = f"cluster-enabled yes\ncluster-port {free_port()}\n" if self._cluster else ""
        return super()._config() + tls + f"user {self.user_rule}\n" + cluster + self._more
