"""ONNX Runtime and OpenVINO on the networks of a run: answers on the validation part, and latencies.

    python -m tests.benchmarks.runtimes RUN [--networks 8] [--profile cpu-1-thread-batch-16]

Method. Networks of the run's space are taken from small to large (the smallest, the
largest and random ones), with the weights that its supernet has, in fp32 and int8. *Same* is the share of validation examples
that both runtimes classify alike; *difference* the largest one of their outputs, over the deviation of ONNX Runtime's. A
latency has its error, half of a 90 % interval. Run it twice where a runtime was never measured on the quiet machine: its usual
speed is known from the first time on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from hardware_profiles.base import Deployment, LatencyMeasurement
from hardware_profiles.catalog import in_runtime, load_profile
from hardware_profiles.profiler_factory import open_profiler
from nas.engine.store.folder import RunsFolder
from nas.engine.store.stored_run import StoredRun
from nas.jobs.build.trained_run import load_trained_run
from nas.jobs.evaluation.scoring import CALIBRATION_BATCH, in_precision, outputs_of
from supernets.networks.module_to_onnx import INPUT, onnx_model
from supernets.training.recalibration import recalibrate
from tests.benchmarks.markdown import table_head, table_row

RUNTIMES, PRECISIONS = ("onnxruntime", "openvino"), ("fp32", "int8")


def main(
    run: str,
    runs: Annotated[Path, typer.Option("--runs")] = Path("runs"),
    networks: int = 8,
    profile: str = "cpu-1-thread-batch-16",
    seed: int = 0,
) -> None:
    """Prints a line for each network and precision, and a summary by precision."""
    trained = load_trained_run(StoredRun.open(RunsFolder(runs), run))
    supernet, data = trained.checkpoint.supernet, trained.data.dataset
    space, rng = supernet.space, np.random.default_rng(seed)
    chosen = [space.smallest, space.largest, *(space.sample(rng) for _ in range(networks - 2))]
    chosen.sort(key=lambda a: supernet.cost(a).macs)
    calibration = trained.data.calibration.split(CALIBRATION_BATCH)
    exact = [onnx_model(recalibrate(supernet.extract(a), calibration), calibration[0][:2]) for a in chosen]
    models = {p: [in_precision(model, p, calibration) for model in exact] for p in PRECISIONS}
    place, labels = load_profile(profile), data.validation.labels.numpy()
    inputs = {INPUT: data.validation.inputs[: place.batch_size].numpy()}
    deployments = [Deployment.single(model, inputs) for own in models.values() for model in own]
    latencies, errors = [], []
    for runtime in RUNTIMES:
        with open_profiler(in_runtime(place, runtime)) as profiler:
            found = list(profiler.measure(deployments))
        measured = [m if isinstance(m, LatencyMeasurement) else None for m in found]
        latencies.append([np.nan if m is None else m.latency_ms for m in measured])
        errors.append([np.nan if m is None else m.resolution for m in measured])
    shape = len(RUNTIMES), len(PRECISIONS), len(chosen)
    times, shares = np.array(latencies).reshape(shape), np.array(errors).reshape(shape)
    print(f"{len(labels)} validation examples; {profile}\n")
    values = ("accuracy", "in OpenVINO", "latency", "in OpenVINO")
    print(table_head("MACs", "precision", "same", "difference", *values))
    for k, precision in enumerate(PRECISIONS):
        for i, (network, model) in enumerate(zip(chosen, models[precision], strict=True)):
            one, two = (outputs_of(model, data.validation, runtime) for runtime in RUNTIMES)
            answers = [outputs.argmax(axis=1) for outputs in (one, two)]
            first, second = (f"{(own == labels).mean():.2%}" for own in answers)
            cells = (
                f"{supernet.cost(network).macs:,}", precision, f"{(answers[0] == answers[1]).mean():.2%}",
                f"{np.abs(one - two).max() / one.std():.1e}", first, second,
                *(f"{times[r, k, i]:.4f} ms ± {shares[r, k, i]:.0%}" for r in range(len(RUNTIMES))),
            )  # fmt: skip
            print(table_row(*cells))
    for k, precision in enumerate(PRECISIONS):
        ratios = times[1, k] / times[0, k]
        wins, losses = ((sign * np.log(ratios) > np.hypot(*shares[:, k])).sum() for sign in (-1, 1))
        print(
            f"\n{precision}: beyond the errors, OpenVINO is faster on {wins} of {len(chosen)} and slower on {losses}; "
            f"the median ratio is {np.nanmedian(ratios):.2f}"
        )


if __name__ == "__main__":
    typer.run(main)
