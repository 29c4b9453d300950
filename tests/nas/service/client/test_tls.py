"""A server with a certificate of its own, and clients that trust it: told to, and not otherwise."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nas.service.client import NasClient
from nas.service.http.access import COOKIE
from nas.service.http.tokens import Tokens
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.nas.service.http.test_server import ELSEWHERE, running


@dataclass(frozen=True)
class Secured:
    """A server that speaks TLS alone, and asks for a token."""

    url: str
    certificate: Path
    token: str


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for ``localhost`` that signs itself, and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nas.test")]), datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    begun = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    valid = begun.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = valid.add_extension(names, critical=False).sign(key, hashes.SHA256())
    certificate, private = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = self_signed(folder)
    token = Tokens(folder / "runs" / ".service" / "tokens.json").make("ada", lifetime_s=600)
    options = ["--certificate", str(certificate), "--key", str(key), "--name", "localhost", *ELSEWHERE]
    with running(folder / "runs", *options) as server:
        assert server.url.startswith("https://127.0.0.1:")
        yield Secured(server.url.replace("127.0.0.1", "localhost"), certificate, token)


@pytest.fixture(autouse=True)
def nobody_is_trusted_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_a_run_goes_through_a_connection_that_is_trusted(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.certificate))
    with NasClient(secured.url, secured.token) as client:
        run = client.submit(SMALL_JOB).run
        assert next(iter(client.watch(run))).status == "queued"
        assert client.cancel(run).submitter == "ada"
    with NasClient(secured.url) as stranger, raises("service.unauthorized"):
        stranger.runs()


def test_an_untrusted_certificate_is_an_error_with_its_remedy(secured: Secured) -> None:
    with (
        NasClient(secured.url, secured.token, wait=lambda _: None) as client,
        raises("service.invalid-certificates", "SSL_CERT_FILE"),
    ):
        client.runs()


def test_a_certificate_of_another_name_is_not_trusted(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.certificate))
    url = secured.url.replace("localhost", "127.0.0.1")
    with (
        NasClient(url, wait=lambda _: None) as client,
        raises("service.invalid-certificates", "mismatch"),
    ):
        client.health()


def test_who_signed_another_certificate_is_not_trusted_with_this_one(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(self_signed(tmp_path)[0]))
    with NasClient(secured.url, wait=lambda _: None) as client, raises("service.invalid-certificates", "SSL_CERT_FILE"):
        client.health()


def test_files_that_are_no_certificates_are_an_error(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none.pem").write_text("nothing")
    for path in (tmp_path / "missing.pem", tmp_path / "none.pem"):
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with raises("service.invalid-certificates", f"SSL_CERT_FILE={path}"):
            NasClient(secured.url)


def test_a_connection_without_tls_is_an_error_with_its_remedy(secured: Secured) -> None:
    plain = secured.url.replace("https", "http")
    with (
        NasClient(plain, wait=lambda _: None) as client,
        raises("service.unreachable", "https://"),
    ):
        client.health()


def test_the_cookie_of_a_page_is_sent_by_tls_alone(secured: Secured) -> None:
    trusted = httpx.Client(base_url=secured.url, verify=ssl.create_default_context(cafile=secured.certificate))
    with trusted as browser:
        signed = browser.post("/login", data={"token": secured.token})
        [cookie] = signed.headers.get_list("set-cookie")
        assert cookie.startswith(COOKIE)
        assert "; Secure" in cookie
