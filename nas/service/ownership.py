"""Ownership: whom stored things belong to, and who may see and change them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from threading import Lock

from hardware_profiles.catalog import known_profiles
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.errors import NotAllowedError, UnknownNameError
from nas.service.people import Caller, Role, current_caller
from nas.service.settings import ServiceSettings
from nas.service.state import RUN_TASKS, ServiceState, TaskKind

_NOBODY = "the server's administrators"
_HIDDEN = "It does not exist, or belongs to another person."


class ThingKind(StrEnum):
    """The kinds of things that belong to a person."""

    RUN = "run"
    DATA_SET = "data set"
    MODEL = "captured model"
    PROFILE = "hardware profile"
    TASK = "task"
    """An export, a measurement or a plan."""


@dataclass(frozen=True, slots=True)
class Thing:
    """A stored thing."""

    kind: ThingKind
    name: str

    def __str__(self) -> str:
        return f"the {self.kind} {self.name!r}"


@dataclass(frozen=True, slots=True)
class Right:
    """The right that a request needs.

    Attributes:
        role: The least role that may send it.
        thing: What it reads or changes; None where it is about no thing, or makes a new one.
        changes: Whether it changes the thing, which only its owner and administrators may.
        action: Its name in the audit log and messages, e.g. ``cancel run``; "" for a request that the log leaves out.
    """

    role: Role
    thing: Thing | None = None
    changes: bool = False
    action: str = ""

    @property
    def action_in_sentence(self) -> str:
        """The action as the end of a sentence: ``cancel the run 'digits-cnn-1'``, ``add an export``, ``see this``."""
        verb, _, noun = self.action.partition(" ")
        if self.thing is not None and self.changes and noun:
            return f"{verb} the {noun} {self.thing.name!r}"
        if verb in ("add", "submit"):
            return f"{verb} {'an' if noun[0] in 'aeiou' else 'a'} {noun}"
        return self.action or "see this"


@dataclass(frozen=True, slots=True)
class VisibleRuns(RunsFolder):
    """The runs of a folder that a rule shows; the others do not exist for readers. New runs avoid the names of all.

    Attributes:
        sees: whether the rule shows a run of this id now.
    """

    sees: Callable[[str], bool]

    # `super()` without arguments does not work in a class with slots.

    def holds(self, run: str) -> bool:
        """True if there is a run of this id to see."""
        return RunsFolder.holds(self, run) and self.sees(run)

    def get(self, run: str) -> RunFolder:
        """The run of this id; raises as `RunsFolder.get`, also for a hidden one."""
        if RunsFolder.holds(self, run) and not self.sees(run):
            raise UnknownNameError("run", run, [folder.id for folder in self.list()], within=str(self.root))
        return RunsFolder.get(self, run)

    def list(self) -> list[RunFolder]:
        """The runs to see, oldest first."""
        return [folder for folder in RunsFolder.list(self) if self.sees(folder.id)]


def _is_shipped(thing: Thing) -> bool:
    """True for a hardware profile that comes with the package, which all people see."""
    return thing.kind is ThingKind.PROFILE and any(profile.name == thing.name for profile in known_profiles())


class Ownership:
    """The owners of the things of one server, and the only place that decides who may do what.

    Attributes:
        naming: Held while the name of an upload is taken or becomes free, together with what is recorded under it.
    """

    def __init__(self, settings: ServiceSettings, state: ServiceState) -> None:
        self._settings, self._state = settings, state
        self._all_runs = RunsFolder(settings.runs.root)
        self.naming = Lock()

    def visible(self, settings: ServiceSettings) -> ServiceSettings:
        """The settings with a runs folder that shows the sender of each request what this person may see."""
        if not settings.private:
            return settings
        return replace(settings, runs=VisibleRuns(settings.runs.root, lambda run: self.sees(Thing(ThingKind.RUN, run))))

    def sees(self, thing: Thing) -> bool:
        """True if the sender of the present request may know of a thing: of own things alone, on a private server."""
        caller = current_caller()
        if not self._settings.private or caller.role is Role.ADMINISTRATOR:
            return True
        return caller.name != "" and caller.name in (self.owner(thing), self._owner_of_whole(thing))

    def check(self, caller: Caller, right: Right) -> None:
        """Raises if a person lacks a right; things that do not exist are nobody's, and pass, but for a private server, whose
        answers do not tell them from what is hidden.

        Raises:
            NotAllowedError: the person lacks the role, or does not own what is to be changed.
            UnknownNameError: a private server hides the thing from this person.
        """
        if not caller.role.includes(right.role):
            text = f"{caller} lacks the role {right.role}, which is needed to {right.action_in_sentence}"
            raise NotAllowedError(f"{text}; an administrator can give another token", code="access.role")
        if right.thing is not None and not self.sees(right.thing) and not _is_shipped(right.thing):
            raise UnknownNameError(str(right.thing.kind), right.thing.name, (), hint=_HIDDEN)
        if right.thing is not None and right.changes and not self.may_change(caller, right.thing):
            owner = self.owner(right.thing) or _NOBODY
            text = f"{right.thing} belongs to {owner}; {caller} can read it, and only {owner} or"
            text = text if owner != _NOBODY else f"{right.thing} belongs to {owner}; {caller} can read it, and only"
            raise NotAllowedError(f"{text} the role {Role.ADMINISTRATOR} can change it", code="access.owner")

    def may_change(self, caller: Caller, thing: Thing) -> bool:
        """True if a person may change a thing: its owner, the owner of what it belongs to, or an administrator."""
        if caller.role is Role.ADMINISTRATOR:
            return True
        if caller.role is Role.READER:
            return False
        owner = self.owner(thing)
        return owner is None or caller.name in (owner, self._owner_of_whole(thing))

    def owner(self, thing: Thing) -> str | None:
        """The name of the person whom a thing belongs to; "" for what the server's administrators have; None for no thing."""
        match thing.kind:
            case ThingKind.RUN:
                submission = self._state.submission(thing.name)
                recorded, exists = getattr(submission, "submitter", None), self._all_runs.holds(thing.name)
            case ThingKind.TASK:
                return getattr(self._state.task(thing.name), "submitter", None)
            case _:
                recorded = self._state.owners().get((str(thing.kind), thing.name))
                exists = any(map(os.path.exists, self._upload(thing)))
        return "" if recorded is None and exists else recorded

    def uploads_at(self, paths: Iterable[Path]) -> list[Thing]:
        """The uploads that files and folders are, or are in; other places of the server's machine are nobody's."""
        folders = {
            ThingKind.DATA_SET: self._settings.uploaded_data.resolve(),
            ThingKind.MODEL: self._settings.captured_models.resolve(),
            ThingKind.PROFILE: self._settings.added_profiles.resolve(),
        }
        return [
            Thing(kind, path.relative_to(folder).parts[0].partition(".")[0])  # names of uploads have no dot
            for path in map(Path.resolve, paths)
            for kind, folder in folders.items()
            if folder in path.parents
        ]

    @contextmanager
    def taking(self, thing: Thing) -> Iterator[None]:
        """Records that an upload belongs to the sender of the request, once the block has put it in its place."""
        with self.naming:
            yield
            self._state.set_owner(str(thing.kind), thing.name, current_caller().name)

    @contextmanager
    def releasing(self, thing: Thing) -> Iterator[None]:
        """Removes the record of an upload's owner, once the block has taken the upload from its place.

        Raises:
            NotAllowedError: the sender of the request may not change it: another person has taken the name meanwhile.
            UnknownNameError: likewise, on a private server.
        """
        with self.naming:
            self.check(current_caller(), Right(Role.MEMBER, thing, changes=True))
            yield
            self._state.set_owner(str(thing.kind), thing.name, None)

    def _upload(self, thing: Thing) -> tuple[Path, ...]:
        """The places of an upload, of which one exists."""
        match thing.kind:
            case ThingKind.DATA_SET:
                return (self._settings.uploaded_data / thing.name,)
            case ThingKind.MODEL:
                return self._settings.captured_model(thing.name), self._settings.pretrained_record(thing.name)
        return (self._settings.added_profile(thing.name),)

    def _owner_of_whole(self, thing: Thing) -> str | None:
        """The owner of the run of an export or an artifact, or of the profile of a measurement; None for any other thing."""
        task = self._state.task(thing.name) if thing.kind is ThingKind.TASK else None
        kinds = dict.fromkeys(RUN_TASKS, ThingKind.RUN) | {TaskKind.MEASUREMENT: ThingKind.PROFILE}
        return self.owner(Thing(kinds[TaskKind(task.kind)], task.of)) if task and task.kind in kinds else None
