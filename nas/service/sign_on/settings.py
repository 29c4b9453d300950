"""Settings of single sign-on: the provider, and how its claims become a person and a role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from nas.errors import NasError
from nas.service.people import Role

EMAIL, VERIFIED = "email", "email_verified"
"""Claims of an address, and of whether it is the person's (OpenID Connect Core 1.0, section 5.1)."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class RoleRule:
    """The role of the people who have a value in a claim, e.g. ``groups=nas-admins:administrator``.

    Attributes:
        claim: Name of a claim, whose value is a text or a list of texts.
    """

    claim: str
    value: str
    role: Role

    @classmethod
    def parse(cls, text: str) -> RoleRule:
        """The rule of a text; raises `NasError` if it is none."""
        claim, equals, value_and_role = text.partition("=")
        value, colon, role = value_and_role.rpartition(":")
        if not (claim and equals and value and colon) or role not in list(Role):
            expected = (
                f"CLAIM=VALUE:ROLE with one of the roles {', '.join(Role)}, such as groups=nas-admins:administrator"
            )
            raise _invalid(f"--oidc-role {text!r}: expected {expected}")
        return cls(claim, value, Role(role))

    def fits(self, claims: Mapping[str, Any]) -> bool:
        """True if a person with these claims has the role."""
        values = claims.get(self.claim)
        return self.value in (values if isinstance(values, list) else [values])


@dataclass(frozen=True, slots=True)
class SignOnSettings:
    """The provider of single sign-on, checked when they are created.

    Attributes:
        issuer: URL of the provider, below which its ``/.well-known/openid-configuration`` is.
        client: Id under which this server is registered there.
        public_url: Address at which browsers reach this server; the provider sends them back to its ``/login/callback``.
        secret: Password of the client; None for a public client, which PKCE alone protects.
        person_claim: Name of the claim whose value is the person's name here, which owns runs: one that people cannot change.
        roles: Rules of which a person gets the highest role; without rules, all are members.
        session_s: Seconds until a person has to sign in again.
        trusts_email: Whether addresses of a provider that has no claim ``email_verified`` count as verified.
    """

    issuer: str
    client: str
    public_url: str
    secret: str | None = field(default=None, repr=False)
    person_claim: str = "preferred_username"
    roles: tuple[RoleRule, ...] = ()
    session_s: float = 12 * 3600.0
    trusts_email: bool = False

    def __post_init__(self) -> None:
        for option, url in (("--oidc-issuer", self.issuer), ("--public-url", self.public_url)):
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
                raise _invalid(f"{option} {url!r}: expected a URL such as https://team.example/path")
            if not is_confidential(url):
                raise _invalid(f"{option} {url!r}: expected https://, since tokens are sent there")
        if not self.client:
            raise _invalid("single sign-on needs --oidc-client, the id under which the provider knows this server")

    @property
    def callback(self) -> str:
        """The address that the provider sends browsers back to."""
        return f"{self.public_url.rstrip('/')}/login/callback"

    @property
    def host(self) -> str:
        """The host name by which browsers reach this server."""
        return str(urlsplit(self.public_url).hostname)

    @property
    def secure(self) -> bool:
        """True if browsers use TLS."""
        return self.public_url.startswith("https://")

    def role_of(self, claims: Mapping[str, Any]) -> Role | None:
        """The role of a person with these claims; None for one that may not sign in."""
        if not self.roles:
            return Role.MEMBER
        return max((rule.role for rule in self.roles if rule.fits(claims)), key=list(Role).index, default=None)


def is_confidential(url: str) -> bool:
    """True if what is sent to a URL is encrypted, or stays on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def _invalid(text: str) -> NasError:
    return NasError(text, code="server.settings-invalid")
