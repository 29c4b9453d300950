"""Makes ``digits_cnn.csv.gz``: every architecture of a tiny space, its supernet trained and each subnet measured.

    python -m tests.data.make_digits_table

Accuracy (per cent) is taken on the validation part, latency on the profile cpu-1-thread-batch-16 of the machine it runs
on. It takes about five minutes; the tests read the committed file.
"""

from __future__ import annotations

import csv
import gzip
import io
import tempfile
from pathlib import Path

import torch

from hardware_profiles.base import Deployment, LatencyFailure
from hardware_profiles.catalog import load_profile
from hardware_profiles.profiler_factory import open_profiler
from nas.jobs.evaluation.scoring import InlineScoring, ScoringTask
from supernets.data import head, load_data
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import CNNSpec, StageSpec
from supernets.networks.module_to_onnx import INPUT
from supernets.training.checkpoint import make_supernet
from supernets.training.strategies.single_phase import SandwichStrategy
from supernets.training.trainer import train
from supernets.training.training_loop import TrainingSettings

HERE = Path(__file__).parent
SPEC = CNNSpec(
    stem=8,
    stem_stride=1,
    stages=(
        StageSpec(stride=1, depth=(1, 2), width=(8, 16), kernel=(3,), expand=(2, 4)),
        StageSpec(stride=2, depth=(1, 2), width=(16, 32), kernel=(3, 5), expand=(2, 4)),
    ),
    head=32,
)
PROFILE = "cpu-1-thread-batch-16"
TOGETHER = 20
"""Subnets timed in the same rounds."""


def main() -> None:
    """Trains, measures, writes."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = load_data("digits", validation=0.3, test=0.2)
    family = MobileCNNFamily(SPEC, image_size=8, channels=1, n_classes=10)
    supernet = make_supernet(family)
    settings = TrainingSettings(epochs=20, batch_size=32, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        train(supernet, data, SandwichStrategy(family.space), settings, Path(folder))
    part = data.validation
    scoring = InlineScoring(supernet, head(data.train, 500), part)
    architectures = family.space.enumerate()
    profiler = open_profiler(load_profile(PROFILE))
    examples = {INPUT: part.inputs[:16].numpy()}
    rows = []
    for start in range(0, len(architectures), TOGETHER):
        group = [
            scoring.score_one(ScoringTask(a, "fp32", metrics=("accuracy",), model=True))
            for a in architectures[start : start + TOGETHER]
        ]
        deployments = [Deployment.single(scored.model or b"", examples) for scored in group]
        for scored, latency in zip(group, profiler.measure(deployments), strict=True):
            if scored.failure or isinstance(latency, LatencyFailure):
                raise SystemExit(f"{scored.task.architecture.key}: {scored.failure or latency}")
            architecture = scored.task.architecture
            values, cost = family.space.values(architecture), supernet.cost(architecture)
            genes = [values.get(choice.name, "") for choice in family.space.choices]
            figures = [f"{100 * scored.scores['accuracy'].value:.4f}", f"{latency.latency_ms:.5f}"]
            rows.append([*genes, *figures, cost.macs, cost.parameters])
        print(f"{len(rows)} of {len(architectures)}", flush=True)
    profiler.close()
    names = [choice.name for choice in family.space.choices]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([[*names, "accuracy", "latency_ms", "macs", "parameters"], *rows])
    with gzip.GzipFile(HERE / "digits_cnn.csv.gz", "wb", mtime=0) as file:
        file.write(text.getvalue().encode())
    (HERE / "digits_cnn.yaml").write_text(
        "# Every architecture of a tiny CNN space on the digits; made by make_digits_table.py\n"
        f"table: digits_cnn.csv.gz\ngenes: [{', '.join(names)}]\nexhaustive: true\n"
    )


if __name__ == "__main__":
    main()
