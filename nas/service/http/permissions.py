"""The right that each request needs, by its method and path."""

from __future__ import annotations

from nas.service.http.access import SIGNED_IN
from nas.service.http.metrics import PREFIX
from nas.service.http.security import SAFE
from nas.service.ownership import Right, Thing, ThingKind
from nas.service.people import Role

_KINDS = {
    "runs": ThingKind.RUN,
    "data": ThingKind.DATA_SET,
    "models": ThingKind.MODEL,
    "profiles": ThingKind.PROFILE,
    "hardware": ThingKind.PROFILE,
    "tasks": ThingKind.TASK,
    "exports": ThingKind.TASK,
    "artifacts": ThingKind.TASK,
    "finetunings": ThingKind.RUN,
    "measurements": ThingKind.TASK,
    "plans": ThingKind.TASK,
}
"""By the parts of paths that a name follows."""
_OF_JOBS = "jobs"
_CHANGING_NOTHING = {"check": "", "edit": "", "login": "sign in", "logout": "sign out"}
"""Requests that are sent as changes and store nothing, with their actions; "" is not in the audit log."""
_FOR_ADMINISTRATORS = frozenset({"audit", "audit.jsonl"})
_VERBS = {"labels": "label", "queue": "prioritise"}
"""In actions, where the last part of a path is no verb."""


def right_of(method: str, path: str) -> Right:
    """The right that a request needs.

    Reading needs no more than a token. A POST to a collection makes a new thing, for which one is a member; every other change
    is one of the innermost thing that the path names. Changes of anything else are for administrators, so that a new route
    is closed until it is listed here.
    """
    parts = path.removeprefix(PREFIX).strip("/").split("/")
    parts = parts[1:] if parts[0] == _OF_JOBS else parts
    pairs = [(parts[i], parts[i + 1]) for i in range(0, len(parts) - 1, 2)]  # a run may have the name of a collection
    things = [Thing(_KINDS[collection], name) for collection, name in pairs if collection in _KINDS]
    thing = things[-1] if things else None
    if path == SIGNED_IN:
        return Right(Role.READER, action=_CHANGING_NOTHING["login"])
    if method in SAFE:
        return Right(Role.ADMINISTRATOR if parts[0] in _FOR_ADMINISTRATORS else Role.READER, thing)
    if len(parts) == 1 and parts[0] in _CHANGING_NOTHING:
        return Right(Role.READER, action=_CHANGING_NOTHING[parts[0]])
    if method == "POST" and len(parts) % 2 and parts[-1] in _KINDS:
        verb = "submit" if parts[-1] == "runs" else "add"
        return Right(Role.MEMBER, thing, action=f"{verb} {_noun(parts[-1])}")
    if thing is None:
        return Right(Role.ADMINISTRATOR, action=f"{method.lower()} {path}")
    verb = _VERBS.get(parts[-1], parts[-1]) if len(parts) % 2 else method.lower()
    return Right(Role.MEMBER, thing, changes=True, action=f"{verb} {_noun(pairs[-1][0])}")


def _noun(collection: str) -> str:
    return "data set" if collection == "data" else collection.removesuffix("s")
