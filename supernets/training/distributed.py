"""Data-parallel training on a Ray cluster, by Ray Train."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from supernets.data import DataSet
from supernets.errors import SupernetError, TrainingError
from supernets.sharing.base import Supernet, TrainingStrategy
from supernets.tasks import CLASSIFICATION, Task
from supernets.training.checkpoint import INDEX, load_checkpoint, write_files
from supernets.training.gradients import CPU, Group
from supernets.training.trainer import Epoch, train
from supernets.training.training_loop import TrainingSettings

_POLL_S = 0.2
_STEP_INTERVAL_S = 0.5
"""Least time between two reports of a step."""
_MAX_FAILURES = 3
"""Deaths of workers or their nodes before the training fails; after each it resumes from the last epoch."""

_Files = Mapping[str, bytes]


class _Mailbox:
    """Actor that passes events from the first worker to the driver, and the last checkpoint to restarted workers."""

    def __init__(self, files: _Files) -> None:
        self._files = files
        self._events: list[tuple[Any, ...]] = []

    def put(self, *event: Any) -> None:
        """Adds ("step", step, steps, loss), ("epoch", epoch, files) or ("failed", error)."""
        self._events.append(event)
        if event[0] == "epoch":
            self._files = event[2]

    def files(self) -> _Files:
        return self._files

    def take_events(self) -> list[tuple[Any, ...]]:
        events, self._events = self._events, []
        return events


def train_on_workers(
    supernet: Supernet,
    data: DataSet,
    strategy: TrainingStrategy,
    settings: TrainingSettings,
    folder: Path,
    *,
    workers: int,
    task: Task = CLASSIFICATION,
    teacher: nn.Module | None = None,
    device: torch.device = CPU,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> str:
    """`supernets.training.trainer.train` by several workers on the cluster that this process is connected to.

    Each worker computes the gradients of its equal share of the batch, and one exchange per step sums them, so that the step
    equals that of one worker on the whole batch, except for batch norms, which use their share only. Checkpoints are
    sent to this process and written to `folder`: the nodes need no shared file system. The number of workers may change
    when a training is resumed.

    Raises:
        TrainingError: the cluster is too small, `ray[train]` is not installed, or workers died too often.
        SupernetError: as in `train`.
    """
    check_workers(workers, settings.threads, device)
    import ray.train.torch

    on_gpu = device != CPU
    mailbox = ray.remote(num_cpus=0)(_Mailbox).remote(_read(folder))
    programs = supernet.family.plain(supernet.space.largest)[0].programs().to_json()
    work = ray.put((supernet.cpu(), programs, data, strategy, settings, task, teacher))
    resources = {"CPU": settings.threads, **({"GPU": 1} if on_gpu else {})}
    failure_config = ray.train.FailureConfig(max_failures=_MAX_FAILURES)
    with tempfile.TemporaryDirectory() as storage:
        trainer = ray.train.torch.TorchTrainer(
            _work,
            train_loop_config={"work": [work], "mailbox": mailbox, "device": device.type},
            scaling_config=ray.train.ScalingConfig(num_workers=workers, use_gpu=on_gpu, resources_per_worker=resources),
            run_config=ray.train.RunConfig(storage_path=storage, failure_config=failure_config),
        )
        failures: list[BaseException] = []
        failure: SupernetError | None = None

        def fit() -> None:
            try:
                trainer.fit()
            except BaseException as error:  # the waiting thread raises it
                failures.append(error)

        thread = threading.Thread(target=fit, daemon=True)
        thread.start()
        while True:
            ended = not thread.is_alive()
            for event in ray.get(mailbox.take_events.remote()):
                match event:
                    case ("step", step, steps, loss):
                        on_step(step, steps, loss)
                    case ("failed", error):
                        failure = error
                    case ("epoch", epoch, files):
                        _write(folder, files)
                        on_epoch(epoch)
            if ended:
                break
            time.sleep(_POLL_S)
    if failure is not None:
        raise failure
    if failures:
        if isinstance(failures[0], ray.train.TrainingFailedError):
            why = str(failures[0]).strip().splitlines() or [type(failures[0]).__name__]
            problem = f"the workers failed more than {_MAX_FAILURES} times: {why[-1]}; resume from the last checkpoint"
            raise TrainingError(problem, code="training.workers-failed") from failures[0]
        raise failures[0]
    done = load_checkpoint(folder)
    supernet.sharing.load_state_dict(done.supernet.sharing.state_dict())
    supernet.eval()
    return done.weights_digest


def _work(config: Mapping[str, Any]) -> None:
    """Runs a worker."""
    import ray

    supernet, programs, data, strategy, settings, task, teacher = ray.get(config["work"][0])
    supernet.family.plain(supernet.space.largest)[0].programs().restore(programs)
    mailbox, device, workers = config["mailbox"], torch.device(config["device"]), Group()
    reported = 0.0

    def on_step(step: int, steps: int, loss: float) -> None:
        nonlocal reported
        if time.monotonic() - reported > _STEP_INTERVAL_S or step == steps:
            reported = time.monotonic()
            mailbox.put.remote("step", step, steps, loss)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, ray.get(mailbox.files.remote()))

        def on_epoch(epoch: Epoch) -> None:
            # Waits, so that the checkpoint is safe before the next epoch begins.
            ray.get(mailbox.put.remote("epoch", epoch, _read(folder)))

        try:
            train(
                supernet,
                data,
                strategy,
                settings,
                folder,
                task=task,
                teacher=teacher,
                device=device,
                workers=workers,
                on_step=on_step,
                on_epoch=on_epoch,
            )
        except SupernetError as error:
            # Reported, not raised: Ray Train would restart the workers, which would all fail again.
            if workers.rank == 0:
                ray.get(mailbox.put.remote("failed", error))


def check_workers(workers: int, threads: int, device: torch.device) -> None:
    """Checks that the cluster that this process is connected to has the resources for the workers.

    Args:
        workers: Number of workers.
        threads: Threads of each worker, one CPU each; on an accelerator each worker also needs a GPU.

    Raises:
        TrainingError: it does not, or `ray[train]` is not installed.
    """
    try:
        import ray.train.torch
    except ImportError as error:
        problem = f"{workers} workers need Ray Train ({error}); pip install 'subnet-nas[distributed]'"
        raise _unavailable(problem) from None
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    check_capacity(nodes, workers, {"CPU": threads, **({"GPU": 1} if device != CPU else {})})


def check_capacity(nodes: Sequence[Mapping[str, float]], workers: int, each: Mapping[str, int]) -> None:
    """Raises `TrainingError` unless the nodes have the resources that the workers need, each worker on one node."""
    capacity = sum(min(int(node.get(name, 0) // needed) for name, needed in each.items()) for node in nodes)
    if workers > capacity:
        needs = " and ".join(f"{needed} {name}" for name, needed in each.items())
        totals = " and ".join(f"{sum(node.get(name, 0) for node in nodes):g} {name}" for name in each)
        remedy = f"the cluster has {totals} in total, enough for {capacity}; lower training.workers, or add nodes"
        raise _unavailable(f"{workers} workers need {needs} each, on one node; {remedy}")


def _unavailable(problem: str) -> TrainingError:
    return TrainingError(f"training.workers: {problem}", code="training.workers-unavailable")


def _read(folder: Path) -> dict[str, bytes]:
    """The files of a checkpoint; empty if there is none."""
    if not (folder / INDEX).is_file():
        return {}
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def _write(folder: Path, files: _Files) -> None:
    """Writes the files of a checkpoint, if there are any, the index last."""
    if files:
        write_files(folder, sorted(files.items(), key=lambda item: item[0] == INDEX))
