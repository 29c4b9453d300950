"""Lowering of arbitrary forwards: it agrees with torch, or rejects the module by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from supernets.graph import lower, lower_blocks
from supernets.live_subnets import clone_tree
from tests.errors import raises
from tests.supernets.plain_networks import difference, run

Function = Callable[[nn.Module, Tensor], Any]


class Own(nn.Module):
    """A module with the given attributes, whose forward is the given function."""

    def __init__(self, function: Function, **attributes: Any) -> None:
        super().__init__()
        self.function = function
        for name, value in attributes.items():
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def assert_agrees(module: nn.Module, shape: tuple[int, ...]) -> None:
    module.eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        x = torch.randn(3, *shape, generator=generator)
        expected = module(x.clone()).numpy()
    assert difference(run(lower(module, shape), x), expected) <= 1e-5


def linears(n: int) -> list[nn.Module]:
    return [nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(n)]


def one_after_another(module: nn.Module, x: Tensor) -> Tensor:
    for layer in module.layers:  # type: ignore[union-attr]
        x = layer(x)
    return x


def doubled_where(holder: Function) -> Function:
    """A forward that returns the layer's output, doubled if `holder` returns true."""
    return lambda module, x: module.layer(x) * 2 if holder(module, x) else module.layer(x)  # type: ignore[operator]


@dataclass
class Settings:
    doubled: bool


class TestCachedTraces:
    @pytest.mark.parametrize("container", [nn.ModuleList, lambda layers: nn.Sequential(*layers)])
    def test_depend_on_the_number_of_children(self, container: Callable[[list[nn.Module]], nn.Module]) -> None:
        for n in (2, 3, 1):
            assert_agrees(Own(one_after_another, layers=container(linears(n))), (4,))

    def test_depend_on_children_of_children(self) -> None:
        def forward(module: nn.Module, x: Tensor) -> Tensor:
            return one_after_another(module.inner, x)  # type: ignore[arg-type]

        for n in (2, 3, 1):
            assert_agrees(Own(forward, inner=Own(forward, layers=nn.Sequential(*linears(n)))), (4,))

    @pytest.mark.parametrize(
        "holder",
        [
            lambda module, x: module.flag,
            lambda module, x: getattr(module, "fl" + "ag"),
            lambda module, x: vars(module)["flag"],
            lambda module, x: module.layer.flag,
            lambda module, x: module.settings.doubled,
            lambda module, x: module.listed[0],
            lambda module, x: module.layer.in_features == module.layer.out_features,
            lambda module, x: next(iter(module.children())).flag,
            lambda module, x: hasattr(module, "there"),
        ],
    )
    def test_depend_on_settings_read_by_a_free_function(self, holder: Function) -> None:
        forward = doubled_where(holder)
        for flag in (True, False, True):
            layer = nn.Linear(4, 4 if flag else 3)
            layer.flag = flag  # type: ignore[assignment]
            there = {"there": 1} if flag else {}
            assert_agrees(Own(forward, layer=layer, flag=flag, settings=Settings(flag), listed=[flag], **there), (4,))

    def test_depend_on_a_missing_tensor(self) -> None:
        forward = doubled_where(lambda module, x: module.layer.bias is None)  # type: ignore[union-attr]
        for bias in (True, False, True):
            assert_agrees(Own(forward, layer=nn.Linear(4, 4, bias=bias)), (4,))

    def test_depend_on_settings_that_change_in_place(self) -> None:
        settings, listed = Settings(True), [True]
        shared = doubled_where(lambda module, x: module.settings.doubled)  # type: ignore[union-attr]
        module = Own(shared, layer=nn.Linear(4, 4), settings=settings)
        other = Own(doubled_where(lambda module, x: module.listed[0]), layer=nn.Linear(4, 4), listed=listed)  # type: ignore[index]
        for flag in (True, False):
            settings.doubled = listed[0] = flag
            assert_agrees(module, (4,))
            assert_agrees(other, (4,))

    def test_depend_on_ties_of_children_and_tensors(self) -> None:
        def forward(module: Any, x: Tensor) -> Any:
            return module.b(module.a(x)) @ module.a.weight + x @ module.b.weight

        layer, tied = nn.Linear(4, 4), nn.Linear(4, 4)
        tied.weight = layer.weight
        for a, b in ((layer, layer), (layer, tied), (nn.Linear(4, 4), nn.Linear(4, 4)), (layer, layer)):
            assert_agrees(Own(forward, a=a, b=b), (4,))

    def test_of_a_live_module_whose_forward_reads_its_own_tensors(self) -> None:
        module = Own(lambda m, x: x * m.scale, scale=nn.Parameter(torch.rand(4)))  # type: ignore[operator]
        live = clone_tree(module)
        live._parameters["scale"] = 2 * module.scale  # type: ignore[assignment, operator]
        for each in (live, module, live):
            assert_agrees(each, (4,))

    def test_are_reused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def forward(module: Any, x: Tensor) -> Any:
            return module.layers(x) * module.factor + module.scale

        def made(n: int, width: int) -> nn.Module:
            layers = [nn.Linear(4, width), *linears(0), nn.Linear(width, 4), *linears(n)]
            return Own(forward, layers=nn.Sequential(*layers), factor=2.0, scale=torch.ones(4)).eval()

        lower(made(1, 5), (4,))
        monkeypatch.setattr("supernets.graph.trace._OneLevel", None)
        lower(made(3, 6), (4,))  # attributes that the forward does not read do not matter

    def test_setting_an_attribute_of_a_child_is_rejected(self) -> None:
        def forward(module: Any, x: Tensor) -> Any:
            module.inner.factor = 3
            y = module.inner(x)
            module.inner.factor = 5
            return y + module.inner(x)

        inner = Own(lambda m, x: x * m.factor, factor=2)  # type: ignore[operator]
        with raises("export.untraceable", "Own", "attribute"):
            lower(Own(forward, inner=inner).eval(), (4,))
        assert inner.factor == 2


def add_one(x: Tensor) -> Tensor:
    x += 1
    return x


def less_one(x: Tensor) -> Tensor:
    x -= 1
    return x


def times_two(x: Tensor) -> Tensor:
    x *= 2
    return x


def halved(x: Tensor) -> Tensor:
    x /= 2
    return x


IN_PLACE: list[Callable[[Tensor], Tensor]] = [
    nn.ReLU(inplace=True),
    nn.ReLU6(inplace=True),
    nn.SiLU(inplace=True),
    nn.Hardswish(inplace=True),
    nn.Hardsigmoid(inplace=True),
    lambda x: functional.relu(x, inplace=True),
    lambda x: functional.relu6(x, inplace=True),
    lambda x: functional.silu(x, inplace=True),
    lambda x: functional.hardswish(x, inplace=True),
    lambda x: functional.hardsigmoid(x, inplace=True),
    add_one,
    less_one,
    times_two,
    halved,
]


class TestInPlace:
    @pytest.mark.parametrize("change", IN_PLACE)
    @pytest.mark.parametrize(
        "alias",
        [
            lambda y: y,
            lambda y: y.flatten(1),
            lambda y: y.reshape(y.shape[0], 2, 2),
            lambda y: y.view(-1, 4),
            lambda y: y.reshape(-1, 2, 2).transpose(1, 2),
            lambda y: y.chunk(2, dim=1)[1],
            lambda y: y.reshape(-1, 2, 2)[:, 0],
            lambda y: functional.dropout(y, training=False),
            nn.Identity(),
        ],
    )
    def test_a_tensor_read_again_is_rejected(
        self, change: Callable[[Tensor], Tensor], alias: Callable[[Tensor], Tensor]
    ) -> None:
        def before(module: Any, x: Tensor) -> Any:
            y = module.layer(x)
            seen = module.alias(y)
            return module.change(y) + seen.flatten(1).mean(1, keepdim=True)

        def after(module: Any, x: Tensor) -> Any:
            y = module.layer(x)
            changed = module.change(module.alias(y))
            return changed.flatten(1).mean(1, keepdim=True) + y

        for forward in (before, after):
            module = Own(forward, layer=nn.Linear(4, 4), change=change, alias=alias)
            with raises("export.in-place", "is read"):
                lower(module.eval(), (4,))

    @pytest.mark.parametrize("change", IN_PLACE)
    def test_a_tensor_not_read_again_is_lowered(self, change: Callable[[Tensor], Tensor]) -> None:
        def forward(module: Any, x: Tensor) -> Any:
            y = module.layer(x)
            seen = y * 3
            return module.change(y) * seen

        assert_agrees(Own(forward, layer=nn.Linear(4, 4), change=change), (4,))

    def test_the_output_counts_as_read(self) -> None:
        def forward(module: Any, x: Tensor) -> Any:
            y: Tensor = module.layer(x)
            functional.relu(y, inplace=True)
            return y

        with raises("export.in-place", "is read"):
            lower(Own(forward, layer=nn.Linear(4, 4)).eval(), (4,))

    def test_a_tensor_of_the_module_is_rejected(self) -> None:
        def forward(module: Any, x: Tensor) -> Any:
            return x + add_one(module.scale.reshape(4))

        with raises("export.in-place", "module itself"):
            lower(Own(forward, scale=torch.ones(2, 2)).eval(), (4,))


class Flagged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(
        self, x: Tensor, factors: tuple[int, int] = (2, 3), *more: Tensor, scale: float = 1, **rest: Any
    ) -> Any:
        y = self.layer(x) * factors[0] + factors[1] * scale
        for each in (*more, *rest.get("rest", ())):
            y = y + each
        return y


class TestArguments:
    @pytest.mark.parametrize(
        "call",
        [
            lambda inner, x: inner(x),
            lambda inner, x: inner(x, (5, 7)),
            lambda inner, x: inner(x, factors=[5, 7]),
            lambda inner, x: inner(x, (1, 2), x, x * 2, scale=3.0),
            lambda inner, x: inner(x, (1, 2), scale=2, rest=[x, x * 3]),
            lambda inner, x: inner(x=x) - inner(x, (x, 2)),
        ],
    )
    def test_of_all_kinds(self, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        assert_agrees(Own(lambda module, x: call(module.inner, x), inner=Flagged()), (4,))  # type: ignore[arg-type]

    def test_a_default_that_is_a_tuple(self) -> None:
        assert_agrees(Flagged(), (4,))

    def test_a_list_that_the_child_changes_is_rejected(self) -> None:
        class Appends(nn.Module):
            def forward(self, x: Tensor, found: list[Tensor]) -> Tensor:
                found.append(x * 2)
                return x

        def forward(module: Any, x: Tensor) -> Any:
            found = [x]
            module.inner(x, found)
            return torch.cat(found, 1)

        with raises("export.untraceable", "Appends"):
            lower(Own(forward, inner=Appends()).eval(), (4,))

    def test_a_chain_called_by_keyword(self) -> None:
        assert_agrees(Own(lambda m, x: m.inner(input=x), inner=nn.Sequential(*linears(2))), (4,))  # type: ignore[operator]


class TestNorms:
    def test_consecutive_norms_are_all_folded(self) -> None:
        assert_agrees(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)), (4, 8, 8))
        assert_agrees(nn.Sequential(nn.Linear(4, 3), *(nn.BatchNorm1d(3) for _ in range(3))), (4,))


class TestTypes:
    @pytest.mark.parametrize(
        ("function", "code", "mention"),
        [
            (lambda module, x: x * module.k, "export.type-mismatch", "Mul mixes"),
            (lambda module, x: module.k + x, "export.type-mismatch", "Add mixes"),
            (lambda module, x: x + module.k * 0.5, "export.type-mismatch", "Mul mixes"),
            (lambda module, x: x + module.k / 2, "export.type-mismatch", "Div of integers"),
            (lambda module, x: x + torch.sigmoid(module.k), "export.type-mismatch", "Sigmoid of integers"),
            (lambda module, x: torch.cat([module.k, module.third]), "export.type-mismatch", "Concat mixes"),
            (lambda module, x: module.k + 1, "export.type-mismatch", "Own returns integers"),
            (lambda module, x: nn.Embedding(5, 3)(x), "export.untraceable", "Own"),
        ],
    )
    def test_mixed_integers_and_floats_are_rejected(self, function: Function, code: str, mention: str) -> None:
        with raises(code, mention):
            lower(Own(function, k=torch.tensor([2]), third=torch.ones(1)).eval(), (4,))

    def test_an_embedding_of_floats_is_rejected(self) -> None:
        with raises("export.type-mismatch", "Embedding", "float32"):
            lower(nn.Embedding(5, 3).eval(), (4,))

    def test_computed_positions(self) -> None:
        def forward(module: Any, x: Tensor) -> Any:
            return x + module.table(module.index * 2 + 1)

        assert_agrees(Own(forward, table=nn.Embedding(9, 4), index=torch.tensor([3, 0])), (2, 4))

    def test_a_block_with_integer_inputs_is_rejected(self) -> None:
        def forward(module: Any, x: Tensor) -> Any:
            return x + module.table(module.shift(module.index))

        shift = Own(lambda module, x: x + 1)
        module = Own(forward, table=nn.Embedding(9, 4), index=torch.tensor([3, 0]), shift=shift)
        with raises("export.invalid-block", "block table ", "integers"):
            lower_blocks(module.eval(), (2, 4), ["table"])

    def test_concatenation_along_the_batch_is_rejected(self) -> None:
        def forward(module: Any, x: Tensor) -> Any:
            return torch.cat([module.row, x]).reshape(-1, 2)

        with raises("export.shape-mismatch", "(3, 4)", "dimension 0"):
            lower(Own(forward, row=torch.ones(3, 4)).eval(), (4,))


class Reversed(nn.Sequential):
    def __iter__(self) -> Any:
        return iter(reversed(list(super().__iter__())))


class Called(nn.Module):
    def __call__(self, x: Tensor) -> Tensor:
        return x * 2

    def forward(self, x: Tensor) -> Tensor:
        return x


class TestKindsOfModules:
    def test_a_list_of_parameters(self) -> None:
        def forward(module: Any, x: Tensor) -> Any:
            for factor in module.factors:
                x = x * factor
            return x

        for n in (2, 3):
            assert_agrees(Own(forward, factors=nn.ParameterList([torch.rand(4) for _ in range(n)])), (4,))

    def test_a_traced_module(self) -> None:
        assert_agrees(fx.symbolic_trace(nn.Sequential(nn.Linear(4, 4), nn.Tanh())), (4,))

    def test_a_chain_in_another_order(self) -> None:
        assert_agrees(Reversed(nn.Linear(4, 4), nn.Tanh()), (4,))

    @pytest.mark.parametrize(
        ("module", "code"),
        [
            (Called(), "export.module-state"),
            (nn.Sequential(nn.Linear(4, 4), Called()), "export.module-state"),
            (nn.Sequential(nn.Linear(4, 4), nn.PReLU()), "export.unknown-operation"),
            (nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)), "export.unknown-operation"),
            (nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), "export.unknown-operation"),
            (nn.Sequential(nn.Linear(4, 4, device="meta")), "export.unknown-operation"),
        ],
    )
    def test_modules_without_a_plain_forward_or_data_are_rejected(self, module: nn.Module, code: str) -> None:
        with raises(code):
            lower(module.eval(), (4,))

    @pytest.mark.filterwarnings("ignore:`torch.jit")
    @pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
    def test_a_compiled_script_is_rejected(self) -> None:
        with raises("export.module-state"):
            lower(torch.jit.trace(nn.Linear(4, 4).eval(), torch.zeros(2, 4)), (4,))
