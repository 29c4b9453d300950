"""Single operations in a captured network: subnets agree live, extracted and in ONNX Runtime; permutations change nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardware_profiles.runtime import run_model
from supernets.capture.adoption import adopt
from supernets.capture.proof import difference, in_double, prove_permutations
from supernets.capture.space import SpaceOptions
from supernets.capture.tracing import capture
from supernets.checkpoint import make_supernet
from supernets.families.captured.family import CapturedFamily
from supernets.module_to_onnx import INPUT, lower

Operation = Callable[[Tensor], Tensor]
OPERATIONS: Mapping[str, Operation] = {
    "log2": lambda x: torch.log2(x.abs() + 1),
    "log1p, expm1": lambda x: torch.log1p(x.abs()) + torch.expm1(x * 0.1),
    "addcdiv": lambda x: torch.addcdiv(x, x, x.abs() + 1, value=0.5),
    "lerp": lambda x: torch.lerp(x, x.flip(2), 0.3),
    "clamp by tensors": lambda x: torch.clamp(
        x, min=x.mean((2, 3), keepdim=True), max=x.amax((2, 3), keepdim=True) * 0.5
    ),
    "movedim": lambda x: torch.movedim(x, 1, -1).movedim((3, 1), (1, 2)),
    "tile": lambda x: x.tile((2, 1)),
    "pixel_unshuffle": lambda x: F.pixel_shuffle(F.pixel_unshuffle(x, 2) * 2, 2),
    "repeat_interleave": lambda x: (
        x.repeat_interleave(2, dim=1).unflatten(1, (16, 2)).sum(2) + x.repeat_interleave(3, dim=2)[:, :, :10]
    ),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 4),
    "var": lambda x: x / (x.var((2, 3), unbiased=False, keepdim=True) + 1) + x.std(-1, keepdim=True),
    "var_mean": lambda x: sum(torch.var_mean(x, (2, 3), keepdim=True)) * x,
    "max": lambda x: torch.max(x, x.max(dim=3, keepdim=True).values * 0.5) + x.min(dim=2, keepdim=True)[0],
    "replicate": lambda x: F.pad(x, (1, 0, 2, 1), mode="replicate"),
    "instance_norm": lambda x: F.instance_norm(x),
    "upsample_linear1d": lambda x: F.interpolate(x.flatten(2), 50, mode="linear", align_corners=True).unsqueeze(-1),
    "bicubic by a factor": lambda x: F.interpolate(x, scale_factor=1.6, mode="bicubic"),
    "a constant that is named like a method": lambda x: x * torch.arange(10).to(x.dtype),
    "unfold": lambda x: x.unfold(2, 4, 3).unfold(3, 2, 2).flatten(2, 3).mean(-1),
}


class Around(nn.Module):
    """An operation between two convolutions."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.operation = operation
        self.stem, self.conv, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.conv(self.operation(self.stem(x)))).mean((2, 3)))


def example(n: int) -> Tensor:
    return torch.randn(n, 3, 10, 10, generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_elastic_exact_and_becomes_onnx(name: str) -> None:
    torch.manual_seed(0)
    module = Around(OPERATIONS[name]).eval()
    found = capture(module, [example(2)])
    adopted = adopt(found.program)
    assert not adopted.unknown
    assert any(axis.startswith("stem") for axis in adopted.axes)
    proof = prove_permutations(adopted, in_double(found.tensors), [example(2).double()])
    assert proof.permuted <= 1e-12
    assert min(proof.control.values()) > 1e-6
    supernet = make_supernet(CapturedFamily(found.program, SpaceOptions(multiple=4), tensors=found.tensors)).eval()
    for architecture in (supernet.space.largest, supernet.space.smallest):
        subnet = supernet.extract(architecture).eval()
        model = lower(subnet, example(2))
        for n in (1, 3):
            with torch.no_grad():
                live, plain = supernet(example(n), architecture), subnet(example(n))
                expected = module(example(n)) if architecture is supernet.space.largest else plain
            (out,) = run_model(model, {INPUT: example(n).numpy()})
            assert difference([expected], [plain]) <= 1e-6
            assert difference([plain], [live]) <= 1e-6
            assert difference([plain], [torch.from_numpy(out)]) <= 1e-5
