"""Settings and limits of a server."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from nas.engine.store.folder import RunsFolder
from nas.errors import NasError
from nas.plugins import is_dotted
from nas.service.sign_on.settings import SignOnSettings

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_MIB = 1024 * 1024
_PATH = re.compile(r"(/[A-Za-z0-9._~-]{1,80}){1,5}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
PRETRAINED_RECORD = ".record.json"
"""In the folder of an uploaded pretrained network, its description."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of requests.

    Attributes:
        connections: open at once; fewer where the limit of open files is lower.
        connections_per_address: of them from one address, or one IPv6 network of 64 bits.
        head_s: seconds for the head of a request, and for the TLS handshake before the first one.
        body_s: seconds for a body, beside those that its bytes take at `bytes_per_s`.
        unread_s: seconds in which a client reads nothing of a response.
        bytes_per_s: the lowest rate of a body.
        body_bytes: of a job file.
        small_body_bytes: of a request other than a job file or an upload; it is parsed between those of others.
        upload_bytes: of an uploaded archive or model.
        archive_members: files in an uploaded archive.
        archive_bytes: of an uploaded archive's files, unpacked.
        archive_ratio: of a member's unpacked size to its compressed size.
        check_s, check_bytes: seconds and memory that the check of an upload's contents may take.
        queued: runs that wait at once.
        queued_of_person, tasks_of_person: of each person with a token, runs that wait, and tasks that wait or run.
        requests_per_minute: of one token; of one address for requests without a token, and for new connections.
        watchers, watchers_of_person: progress streams at once, in all and of each person with a token.
        task_s: seconds that the command of an export or a measurement may take.
        data_bytes, data_sets: of all uploaded data sets together, and their number.
        profiles: hardware profiles that were added.
        models, model_bytes: captured models that were uploaded, and all of them together.
        exports_of_a_run: of each run, until some are deleted.
    """

    connections: int = 2000
    connections_per_address: int = 1000
    head_s: float = 10.0
    body_s: float = 30.0
    unread_s: float = 60.0
    bytes_per_s: int = 16 * 1024
    body_bytes: int = _MIB
    small_body_bytes: int = 64 * 1024
    upload_bytes: int = 256 * _MIB
    archive_members: int = 200_000
    archive_bytes: int = 2048 * _MIB
    archive_ratio: float = 200.0
    check_s: float = 300.0
    check_bytes: int = 6 * 1024 * _MIB
    queued: int = 200
    queued_of_person: int = 50
    tasks_of_person: int = 20
    requests_per_minute: int = 6000
    watchers: int = 500
    watchers_of_person: int = 100
    task_s: float = 1800.0
    data_bytes: int = 20 * 1024 * _MIB
    data_sets: int = 200
    profiles: int = 200
    models: int = 200
    model_bytes: int = 20 * 1024 * _MIB
    exports_of_a_run: int = 200


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is notified of the ends of runs, and the secret with which notifications are signed."""

    url: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """A server's settings, which are checked when they are created.

    Attributes:
        host: address to listen on; any but a loopback address needs a token.
        names: further host names of the server; requests to other names than these, its address and the machine's name are
            rejected.
        root_path: path below which a proxy has the server, such as ``/nas``; "" for none. Not one of the server's own paths.
        certificate, key: PEM files for TLS; both or none.
        sign_on: single sign-on with a provider, beside tokens; None for tokens alone.
        data_roots: folders below which submitted jobs may name data sets.
        allowed_plugins: classes, as ``module:Class``, that submitted jobs may name; those that installed packages register
            under short names may be named always.
        private: whether people see only what belongs to them; administrators see everything.
        jobs_at_once: runs that have a driver at the same time.
        store: URL of the PostgreSQL database of submitted runs, without a password; None for a file in each run's folder.
        running_per_person: of them, those of one person; None for no limit.
        webhook: is notified of the end of every submitted run; None for none.
        private_webhooks: whether the webhooks of submissions may be addresses of private networks and of this machine.
        public_url: The address of the server for links in notifications; "" for the one that it listens on.
        keep_runs_days: Days after its end until a submitted run is deleted; None to keep runs.
        keep_logs_days: Days after its end until the logs of a submitted run are deleted; None to keep them as long as the run.
        resumes: times in a row that a run whose driver died without progress is resumed.
        ray_address: ``HOST:PORT`` of a Ray cluster's head that drivers join, or None for a head of the server's own.
        ray_jobs_url: of that cluster's job server, e.g. ``http://127.0.0.1:8265``; given with `ray_address`.
    """

    runs: RunsFolder
    host: str = "127.0.0.1"
    port: int = 8700
    names: tuple[str, ...] = ()
    root_path: str = ""
    certificate: Path | None = None
    key: Path | None = None
    sign_on: SignOnSettings | None = None
    data_roots: tuple[Path, ...] = ()
    allowed_plugins: tuple[str, ...] = ()
    private: bool = False
    jobs_at_once: int = 1
    store: str | None = None
    running_per_person: int | None = None
    webhook: Webhook | None = None
    private_webhooks: bool = False
    public_url: str = ""
    keep_runs_days: float | None = None
    keep_logs_days: float | None = None
    resumes: int = 3
    ray_address: str | None = None
    ray_jobs_url: str | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise _invalid("TLS needs both --certificate and --key; got one of them")
        for name in self.names:
            if _NAME.fullmatch(name) is None:
                raise _invalid(
                    f"--name {name!r}: expected a host name without https:// and a port, such as nas.team.example"
                )
        if self.sign_on is not None and urlsplit(self.sign_on.public_url).path.rstrip("/") != self.root_path:
            text = (
                f"--public-url {self.sign_on.public_url}: expected the path of --root-path, {self.root_path or 'none'}"
            )
            raise _invalid(text)
        if self.root_path and _PATH.fullmatch(self.root_path) is None:
            raise _invalid(
                f"--root-path {self.root_path!r}: expected a path of the proxy such as /nas, without / at its end"
            )
        for plugin in self.allowed_plugins:
            if not is_dotted(plugin):
                raise _invalid(f"--allow-plugin {plugin!r}: expected a class, such as package.module:Class")
        if (self.ray_address is None) != (self.ray_jobs_url is None):
            raise _invalid("a cluster of your own needs both --address HOST:PORT and --jobs-url URL; got one of them")

    @property
    def on_loopback(self) -> bool:
        """True if only this machine can reach the server."""
        return self.host in _LOOPBACK

    @property
    def needs_token(self) -> bool:
        """True if requests need a token: they may come from other machines, perhaps through a proxy with one of the names."""
        return not self.on_loopback or bool(self.names) or self.sign_on is not None

    @property
    def folder(self) -> Path:
        """The server's own folder; no run can have this name."""
        return self.runs.root / ".service"

    @property
    def database(self) -> Path:
        """The database of submissions and tasks."""
        return self.runs.root / "service.db"

    @property
    def tokens_file(self) -> Path:
        """Digests of the valid tokens."""
        return self.folder / "tokens.json"

    @property
    def password_file(self) -> Path:
        """The password of the run store, as libpq reads it, where the server's environment has it."""
        return self.folder / "pgpass"

    @property
    def audit_file(self) -> Path:
        """The present file of the audit log."""
        return self.folder / "audit.jsonl"

    @property
    def trash(self) -> Path:
        """Deleted runs, until their files are removed."""
        return self.folder / "deleted"

    @property
    def uploads(self) -> Path:
        """Uploaded data sets, models and hardware profiles."""
        return self.folder / "uploads"

    @property
    def uploaded_data(self) -> Path:
        """The data sets among them, a folder each."""
        return self.uploads / "data"

    @property
    def captured_models(self) -> Path:
        """The captured models among them, a file each, and the pretrained networks, a folder each."""
        return self.uploads / "captured"

    def captured_model(self, name: str) -> Path:
        """The file of a captured model."""
        return self.captured_models / f"{name}.capture"

    def pretrained_record(self, name: str) -> Path:
        """The description in the folder of a pretrained network."""
        return self.captured_models / name / PRETRAINED_RECORD

    @property
    def added_profiles(self) -> Path:
        """The hardware profiles among them, a file each."""
        return self.uploads / "profiles"

    def added_profile(self, name: str) -> Path:
        """The file of one of them."""
        return self.added_profiles / f"{name}.yaml"

    @property
    def data_records(self) -> Path:
        """The records of the data sets' contents, a file each."""
        return self.uploads / "data-records"

    @property
    def plans(self) -> Path:
        """The jobs that are planned, each in the folder of its task."""
        return self.folder / "plans"

    @property
    def uploaded_models(self) -> Path:
        """The models among them, each in the folder of its measurement."""
        return self.uploads / "models"


def _invalid(text: str) -> NasError:
    return NasError(text, code="server.settings-invalid")
