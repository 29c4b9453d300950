"""Entries of the audit log as the API describes them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from nas.service.api import schemas
from nas.service.audit import AuditEntry, AuditLog


def audit_page(
    log: AuditLog, *, who: str, action: str, thing: str, outcome: str | None, offset: int, limit: int
) -> schemas.AuditPage:
    """The entries that match, the newest first; see `AuditEntry.matches`."""
    entries = [e for e in log.entries() if e.matches(who=who, action=action, thing=thing, outcome=outcome or "")]
    page = tuple(map(_described, entries[offset : offset + limit]))
    return schemas.AuditPage(total=len(entries), offset=offset, entries=page)


def _described(entry: AuditEntry) -> schemas.AuditEntry:
    return schemas.AuditEntry.model_validate(asdict(entry) | {"time": datetime.fromtimestamp(entry.time, UTC)})
