"""Latency of a space's blocks and networks on one profile, scaled to one speed of the machine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.base import Deployment, HardwareProfile, LatencyProfiler
from hardware_profiles.block_baseline import baseline_model, needs_prefix, with_prefix
from hardware_profiles.lookup_table import Entry, Subnet
from hardware_profiles.measuring.profiler import MAX_BATCH
from hardware_profiles.quantize import convert
from nas.jobs.build.built_job import BuiltJob
from nas.jobs.evaluation.environments import Environments
from nas.jobs.evaluation.scoring import in_precision
from nas.jobs.planning.latencies import measure_all
from supernets.data import head
from supernets.networks.module_to_onnx import onnx_model
from supernets.networks.network import BlockInput, BlockModel
from supernets.networks.onnx_graph.ir import INPUT, LENGTH, LENGTH_NAME
from supernets.sharing.base import Supernet
from supernets.space import Architecture

_CALIBRATION_IMAGES = 32

Inputs = Sequence[Mapping[str, NDArray[Any]]]


class BlockLatency:
    """Measures blocks and networks of a supernet on one profile; `rng` draws the inputs' noise."""

    def __init__(
        self,
        built_job: BuiltJob,
        profile: HardwareProfile,
        profiler: LatencyProfiler,
        supernet: Supernet,
        rng: np.random.Generator,
    ) -> None:
        self._built_job, self._profile, self._profiler, self._supernet = built_job, profile, profiler, supernet
        self._rng = rng
        self._environment_name = f"profile {profile.name}"
        self._environments = Environments({self._environment_name: profiler.environment()})

    def sentinel_ms(self) -> float:
        """The current latency of the sentinel, from a session with a minimal model."""
        deployment = Deployment.single(baseline_model((1,), INPUT), {INPUT: self._noise((1,))})
        (measurement,) = measure_all(self._profiler, [deployment], [f"the sentinel on {self._environment_name}"])
        return float(measurement.environment["sentinel_ms"])

    def blocks(
        self, blocks: Sequence[tuple[BlockModel, int]], precision: str, *, sentinel_ms: float
    ) -> dict[str, Entry]:
        """Entries by block key, less the baselines, which are measured in the same rounds.

        Args:
            blocks: models with their MACs.
            sentinel_ms: sentinel latency to which the entries are scaled.
        """
        firsts = list(dict.fromkeys(block.inputs[0] for block, _ in blocks))
        models = [with_prefix(block.model, _shape(block.inputs[0]), INPUT) for block, _ in blocks]
        models += [baseline_model(_shape(first), INPUT, integer=first.integer) for first in firsts]
        names = [f"block {block.name}" for block, _ in blocks] + [f"the baseline of {first.shape}" for first in firsts]
        inputs = [self._inputs(block.inputs) for block, _ in blocks] + [self._inputs((first,)) for first in firsts]
        # A model without weights is the same in every precision, and `convert` rejects it.
        weighted = [needs_prefix(_shape(block.inputs[0])) or macs > 0 for block, macs in blocks]
        weighted += [needs_prefix(_shape(first)) for first in firsts]
        converted = [
            convert(model, precision, feeds) if has_weights else model
            for model, feeds, has_weights in zip(models, inputs, weighted, strict=True)
        ]
        measured = self._measure(converted, inputs, names, sentinel_ms)
        baselines = dict(zip(firsts, measured[len(blocks) :], strict=True))
        entries = {}
        for (block, macs), latency in zip(blocks, measured[: len(blocks)], strict=True):
            baseline = baselines[block.inputs[0]]
            error_ms = math.hypot(latency.error_ms, baseline.error_ms)
            entries[block.key] = Entry(latency.latency_ms - baseline.latency_ms, error_ms, macs)
        return entries

    def networks(self, networks: Sequence[Architecture], precision: str, *, sentinel_ms: float) -> dict[str, Subnet]:
        """Latencies of whole networks by architecture key, scaled as in `blocks`."""
        images = head(self._built_job.data.calibration, _CALIBRATION_IMAGES).inputs
        exported = [onnx_model(self._supernet.extract(a), images[:2]) for a in networks]
        models = [in_precision(model, precision, [images]) for model in exported]
        inputs = [{INPUT: examples} for examples in self._built_job.data.timed_batches(self._profile)]
        names = [f"network {a.key}" for a in networks]
        measured = self._measure(models, [inputs] * len(models), names, sentinel_ms)
        return dict(zip([a.key for a in networks], measured, strict=True))

    def _inputs(self, block_inputs: Sequence[BlockInput]) -> Inputs:
        """The inputs of a block, a mapping per call: at the lengths of a search's calls, with token ids of real sentences.

        All else is noise: dense kernels need the same time for any values, zeros included.
        """
        return [
            {
                block_input.name: example if block_input.integer else self._noise(_shape(block_input, example))
                for block_input in block_inputs
            }
            for example in self._built_job.data.timed_batches(self._profile)
        ]

    def _noise(self, shape: Sequence[int | str]) -> NDArray[np.float32]:
        return self._rng.standard_normal((self._profile.batch_size, *map(int, shape))).astype(np.float32)

    def _measure(
        self, models: Sequence[bytes], inputs: Sequence[Inputs], names: Sequence[str], sentinel_ms: float
    ) -> list[Subnet]:
        """Latencies of models over their inputs, scaled to the sentinel, since the machine's clock and load change."""
        deployments = [Deployment.single(model, *feeds) for model, feeds in zip(models, inputs, strict=True)]
        latencies = []
        for result in measure_all(
            self._profiler, deployments, [f"{name} on {self._environment_name}" for name in names]
        ):
            self._environments.check(self._environment_name, result.environment)
            latency_ms = result.latency_ms * (sentinel_ms / float(result.environment["sentinel_ms"]))
            latencies.append(Subnet(latency_ms, latency_ms * result.resolution))
        return latencies


def in_batches(blocks: Sequence[tuple[BlockModel, int]]) -> Iterator[list[tuple[BlockModel, int]]]:
    """Batches of blocks that, with one baseline per input shape, have at most `MAX_BATCH` models.

    Pass the blocks shuffled. Sorted by shape they would need fewer baselines, but then all blocks of a stage would be
    measured in the same minute, and a disturbance in it would look like a property of the stage.
    """
    batch, shapes = list[tuple[BlockModel, int]](), set[BlockInput]()
    for block in blocks:
        shape = block[0].inputs[0]
        if len(batch) + 1 + len(shapes | {shape}) > MAX_BATCH:
            yield batch
            batch, shapes = [], set()
        batch.append(block)
        shapes.add(shape)
    if batch:
        yield batch


def _shape(block_input: BlockInput, example: NDArray[Any] | None = None) -> list[int | str]:
    """The shape of a block's input; its number of tokens is that of the example, or a name."""
    length = LENGTH_NAME if example is None else example.shape[1]
    return [length if size == LENGTH else size for size in block_input.shape]
