"""The files of a run that clients download together."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from nas.errors import NasError
from nas.service.path_privacy import PathPrivacy
from nas.service.service import Service
from nas.service.views.networks import NetworkQuery, networks_csv

_EVERYTHING = 10**9
_TEXTS = frozenset({".csv", ".html", ".json", ".md", ".svg", ".txt", ".yaml"})


def run_files(service: Service, run: str) -> dict[str, Path | bytes]:
    """The job, the results as tables, the log, the plots, the exports and the artifacts of a run, by their paths.

    Its trained supernet and its database are not among them, nor are the paths of the server's folders in texts; exports
    stay as they were written, since their manifests have their digests.

    Raises:
        UnknownNameError: there is no such run.
    """
    folder = service.settings.runs.get(run)
    detail = service.runs.readable_detail(run)
    files: dict[str, Path | bytes] = {
        "job.yaml": detail.job.encode(errors="replace"),
        "run.json": detail.model_dump_json(indent=1).encode(),
        "log.txt": service.submissions.logs(run).encode(errors="replace"),
    }
    with suppress(NasError):  # a training, or a run that has not begun or cannot be read: its summary says so
        files["training.json"] = service.results.training(run).model_dump_json(indent=1).encode()
        if detail.kind == "search" and detail.objectives:
            scored = service.results.scored(run)
            files["front.csv"] = networks_csv(service.results.front(run).members, scored=scored).encode()
            page = service.results.evaluations(run, NetworkQuery("all"), limit=_EVERYTHING)
            files["evaluations.csv"] = networks_csv(page.networks, scored=scored).encode()
    if folder.plots.is_dir():
        files |= {f"plots/{path.name}": path for path in sorted(folder.plots.glob("[!.]*")) if path.is_file()}
    files |= service.exports.files_of_run(run) | service.artifacts.files_of_run(run)
    hide_paths = PathPrivacy(service.settings, data=False)
    return {
        f"{run}/{path}": content if path.startswith("exports/") else _without_paths(content, hide_paths)
        for path, content in files.items()
    }


def _without_paths(content: Path | bytes, hide_paths: PathPrivacy) -> Path | bytes:
    if isinstance(content, Path):
        if content.suffix not in _TEXTS:
            return content
        content = content.read_bytes()
    return hide_paths(content.decode(errors="surrogateescape")).encode(errors="surrogateescape")
