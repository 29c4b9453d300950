"""Data-parallel training on a Ray cluster: workers by Ray Train, one sum of gradients a step, checkpoints brought home."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from supernets.base import Supernet, TrainingStrategy
from supernets.checkpoint import INDEX, load_checkpoint
from supernets.data import DataSet
from supernets.errors import CheckpointError, SupernetError, TrainingError
from supernets.loop import CPU
from supernets.reduction import Group
from supernets.trainer import Epoch, TrainingSettings, train

_POLL_S = 0.2
_TELL_S = 0.5
"""Between two messages about steps."""
_MAX_FAILURES = 3
"""Workers, or nodes of theirs, that may die before the training is given up; each time it goes on from the last epoch."""

_Files = Mapping[str, bytes]


class _Mailbox:
    """Where the first worker leaves checkpoints and news for the driver; it has the last checkpoint for who starts anew."""

    def __init__(self, files: _Files) -> None:
        self._files = files
        self._news: list[tuple[Any, ...]] = []

    def step(self, step: int, steps: int, loss: float) -> None:
        self._news.append(("step", step, steps, loss))

    def epoch(self, epoch: Mapping[str, Any], files: _Files) -> None:
        self._files = files
        self._news.append(("epoch", epoch, files))

    def failed(self, kind: str, text: str) -> None:
        self._news.append(("failed", kind, text))

    def files(self) -> _Files:
        return self._files

    def news(self) -> list[tuple[Any, ...]]:
        news, self._news = self._news, []
        return news


def train_on_workers(
    supernet: Supernet,
    data: DataSet,
    strategy: TrainingStrategy,
    settings: TrainingSettings,
    folder: Path,
    *,
    workers: int,
    teacher: nn.Module | None = None,
    device: torch.device = CPU,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> str:
    """`supernets.trainer.train` by several workers on the cluster that this process is connected to.

    Every step's batch is cut into equal shares; each worker adds up the gradients of the step's passes over its share, and
    the sums are added over workers in one exchange, so that the step is that of one worker on the whole batch, but for batch
    norms, which see their share alone. Checkpoints are sent to this process and written to `folder`: the nodes need no file
    system in common. A training may be resumed with another number of workers.

    Raises:
        TrainingError: the cluster has less than the workers need, `ray[train]` is not installed, or workers died too often.
        SupernetError: as of `train`.
    """
    check_workers(workers, settings.threads, device)
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    on_gpu = device != CPU
    mailbox = ray.remote(num_cpus=0)(_Mailbox).remote(_read(folder))
    work = ray.put((supernet.cpu(), data, strategy, settings, teacher))
    resources = {"CPU": settings.threads, **({"GPU": 1} if on_gpu else {})}
    with tempfile.TemporaryDirectory() as storage:
        trainer = TorchTrainer(
            _work,
            train_loop_config={"work": [work], "mailbox": mailbox, "device": device.type},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=on_gpu, resources_per_worker=resources),
            run_config=RunConfig(storage_path=storage, failure_config=FailureConfig(max_failures=_MAX_FAILURES)),
        )
        failures: list[BaseException] = []
        told_error: SupernetError | None = None

        def fit() -> None:
            try:
                trainer.fit()
            except BaseException as error:  # raised again by the thread that waits
                failures.append(error)

        thread = threading.Thread(target=fit, daemon=True)
        thread.start()
        while True:
            ended = not thread.is_alive()
            for kind, *told in ray.get(mailbox.news.remote()):
                if kind == "step":
                    on_step(*told)
                elif kind == "failed":
                    told_error = (CheckpointError if told[0] == CheckpointError.__name__ else TrainingError)(told[1])
                else:
                    _write(folder, told[1])
                    on_epoch(Epoch(**told[0]))
            if ended:
                break
            time.sleep(_POLL_S)
    if told_error is not None:
        raise told_error
    if failures:
        if isinstance(failures[0], TrainingFailedError):
            why = str(failures[0]).strip().splitlines() or [type(failures[0]).__name__]
            raise TrainingError(
                f"the workers failed more than {_MAX_FAILURES} times: {why[-1]}; the last epoch's checkpoint is kept, resume "
                "to go on"
            ) from failures[0]
        raise failures[0]
    done = load_checkpoint(folder)
    supernet.sharing.load_state_dict(done.supernet.sharing.state_dict())
    supernet.eval()
    return done.weights_digest


def _work(config: Mapping[str, Any]) -> None:
    """What a worker does."""
    import ray

    supernet, data, strategy, settings, teacher = ray.get(config["work"][0])
    mailbox, device, workers = config["mailbox"], torch.device(config["device"]), Group()
    told = 0.0

    def on_step(step: int, steps: int, loss: float) -> None:
        nonlocal told
        if time.monotonic() - told > _TELL_S or step == steps:
            told = time.monotonic()
            mailbox.step.remote(step, steps, loss)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, ray.get(mailbox.files.remote()))

        def on_epoch(epoch: Epoch) -> None:
            # Waits: what has been trained is not lost once the next epoch has begun.
            ray.get(mailbox.epoch.remote(asdict(epoch), _read(folder)))

        try:
            train(
                supernet, data, strategy, settings, folder,
                teacher=teacher, device=device, workers=workers, on_step=on_step, on_epoch=on_epoch,
            )  # fmt: skip
        except SupernetError as error:
            # Every worker comes to the same; it is told, not raised, or the training would be tried again.
            if workers.rank == 0:
                ray.get(mailbox.failed.remote(type(error).__name__, str(error)))


def check_workers(workers: int, threads: int, device: torch.device) -> None:
    """Refuses more workers than the cluster that this process is connected to has room for.

    Args:
        threads: of each worker, a CPU each; where the device is an accelerator, each needs a GPU, too.

    Raises:
        TrainingError: there is not the room, or `ray[train]` is not installed.
    """
    try:
        import ray
        import ray.train.torch
    except ImportError as error:
        raise TrainingError(
            f"training.workers: more than one needs Ray Train ({error}); install it: pip install 'subnet-nas[distributed]'"
        ) from None
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    check_room(nodes, workers, {"CPU": threads, **({"GPU": 1} if device != CPU else {})})


def check_room(nodes: Sequence[Mapping[str, float]], workers: int, each: Mapping[str, int]) -> None:
    """Refuses workers that nodes have no room for; a worker does not spread over two.

    Args:
        nodes: what each node offers, by resource.
        each: what a worker needs.

    Raises:
        TrainingError: tells what came, and what there is.
    """
    remedy = "ask for fewer, or join more nodes"
    for name, needed in each.items():
        there = sum(node.get(name, 0) for node in nodes)
        if workers * needed > there:
            raise TrainingError(
                f"training.workers: {workers} workers need {name}s: {workers * needed} ({needed} each), and the cluster has "
                f"{there:g}; {remedy}"
            )
    room = sum(min(int(node.get(name, 0) // needed) for name, needed in each.items()) for node in nodes)
    if workers > room:
        needs = " and ".join(f"{needed} {name}" for name, needed in each.items())
        raise TrainingError(
            f"training.workers: {workers} workers need {needs} each, on one node, and the cluster's nodes have room for "
            f"{room}; {remedy}"
        )


def _read(folder: Path) -> dict[str, bytes]:
    """The files of a checkpoint; none where there is none."""
    if not (folder / INDEX).is_file():
        return {}
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def _write(folder: Path, files: _Files) -> None:
    """Puts a checkpoint's files into a folder, the index last, and removes those of the one before it."""
    if not files:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(files, key=lambda name: name == INDEX):
        temporary = folder / f".{name}.{os.getpid()}"
        with temporary.open("wb") as file:
            file.write(files[name])
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / name)
    for old in folder.glob("*.safetensors"):
        if old.name not in files:
            old.unlink()
