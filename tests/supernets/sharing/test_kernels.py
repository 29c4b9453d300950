"""Learned kernel transforms: chained from side to side, shared by channels, initially the plain centre."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional

from supernets.sharing.spec import SharingSpec
from supernets.space import Architecture
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets import invariants
from tests.supernets.sharing.families import CNN, VIT, images_for, made

TRANSFORM = SharingSpec(kernels="transform")


def with_kernels(side: int) -> Architecture:
    """The largest network with this kernel side wherever it is an option."""
    genes = [
        c.options.index(side) if c.name.endswith("kernel") and side in c.options else len(c.options) - 1
        for c in CNN.space.choices
    ]
    return CNN.space.canonical(genes)


def test_initial_transforms_equal_slices_bit_for_bit() -> None:
    plain = invariants.randomised(make_supernet(CNN))
    supernet = make_supernet(CNN, TRANSFORM)
    supernet.sharing.load_state_dict(plain.sharing.state_dict(), strict=False)
    for architecture in invariants.architectures(plain):
        expected = plain.weights(architecture)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in supernet.weights(architecture).items())


@torch.no_grad()
def test_the_chain_follows_the_papers_formula() -> None:
    """K5 = vec(centre(K7)) T', K3 = vec(centre(K5)) T', channel by channel; 7 to 3 in one step where 5 is no option."""
    supernet = made("cnn", "transform")
    state = {name: tensor.double().numpy() for name, tensor in supernet.sharing.state_dict().items()}
    for name, steps in (("stages.0.1.filter.conv", (7, 5, 3)), ("stages.1.0.filter.conv", (7, 3))):
        kernels = state[f"stored.{name}.weight"][:, 0]
        for old, new in pairwise(steps):
            matrix, cut = state[f"kernels.steps.{name.replace('.', '/')}/{old}-{new}"], (old - new) // 2
            assert matrix.shape == (new**2, new**2)
            middles = [k[cut : cut + new, cut : cut + new].reshape(-1) for k in kernels]
            kernels = np.stack([(matrix @ middle).reshape(new, new) for middle in middles])
            came = supernet.weights(with_kernels(new))[f"{name}.weight"]
            np.testing.assert_allclose(came[:, 0].numpy(), kernels, rtol=1e-4, atol=1e-5)


def test_a_step_trains_only_the_transforms_that_it_uses() -> None:
    supernet = make_supernet(CNN, TRANSFORM).train()
    steps = dict(supernet.sharing.get_submodule("kernels").named_parameters())

    def trained_by(architecture: Architecture) -> set[str]:
        supernet.zero_grad()
        functional.cross_entropy(supernet(images_for("cnn"), architecture), torch.arange(16) % 5).backward()
        return {name for name, matrix in steps.items() if matrix.grad is not None and matrix.grad.any()}

    assert trained_by(CNN.space.largest) == set()
    assert trained_by(with_kernels(5)) == {name for name in steps if name.endswith("7-5")}
    assert trained_by(with_kernels(3)) == set(steps)


def test_a_family_without_elastic_kernels_is_rejected() -> None:
    with raises("sharing.invalid", "kernels"):
        make_supernet(VIT, TRANSFORM)
