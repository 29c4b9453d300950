"""Programs of families: axes that do not fit the network are rejected, and checkpoints keep the programs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hardware_profiles.runtime import run_model
from supernets.errors import HOW_TO_ADD_A_FAMILY
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.families.registry import FAMILIES
from supernets.networks import family_program
from supernets.networks.family_program import Programs
from supernets.networks.module_to_onnx import INPUT, lower, onnx_model
from supernets.networks.network import network_of
from supernets.sharing.base import Family
from supernets.sharing.blocks import BlockKeys
from supernets.sharing.spec import SharingSpec
from supernets.space import Architecture, Choice, SearchSpace
from supernets.space.axes import Axes, Axis, Dim, NamedDims
from supernets.space.search_space import Option
from supernets.training import checkpoint
from supernets.training.checkpoint import INDEX, PROGRAMS, load_checkpoint, make_supernet, save_checkpoint
from tests.errors import raises


class TwoLayers(nn.Module):
    """Two linear layers beside each other, whose sum is classified; perhaps the second reads the first."""

    def __init__(self, *, divided: bool = False, ordered: bool = False, counted: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(7, 12), nn.Linear(7, 12), nn.Linear(12, 3)
        self.divided, self.ordered, self.counted = divided, ordered, counted

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x))
        if self.divided:
            hidden = hidden.unflatten(1, (4, 3)).softmax(2).flatten(1)
        if self.ordered:
            hidden = hidden.cumsum(1)
        out: Tensor = self.head(hidden + self.second(x))
        return out + torch.arange(3) if self.counted else out


class TwoLayersFamily(Family):
    """A family whose names of axes a test chooses."""

    name = "two-layers"

    def __init__(self, named: Mapping[str, NamedDims], axes: Axes | None = None, **network: bool) -> None:
        self.named, self.network = named, network
        self.space = SearchSpace([Choice("units", (4, 8, 12)), Choice("others", (4, 8, 12))])
        if axes is not None:
            self.axes = axes

    def template(self) -> nn.Module:
        return TwoLayers(**self.network)

    def named_dims(self) -> Mapping[str, NamedDims]:
        return self.named

    def example(self, batch_size: int = 1) -> Tensor:
        return torch.zeros(batch_size, 7)

    def to_json(self) -> dict[str, Any]:
        axes, space = repr(vars(self).get("axes")), self.space.to_json()
        return {"named": repr(self.named), "axes": axes, "network": self.network, "space": space}


UNITS: Mapping[str, NamedDims] = {"first.weight": ("units", ...)}


def test_one_name_reaches_every_tensor_that_has_the_axis() -> None:
    family = TwoLayersFamily(UNITS)
    expected: dict[str, tuple[Dim, ...]] = {
        "first.weight": ("units", 7),
        "first.bias": ("units",),
        "second.weight": ("units", 7),
        "second.bias": ("units",),
        "head.weight": (3, "units"),
        "head.bias": (3,),
    }
    assert family.dims() == expected
    assert family.axes == {"units": Axis("units", 12)}
    assert family.blocks == ("first", "second", "head")
    smallest = make_supernet(family).extract(family.space.smallest)
    assert {name: tuple(tensor.shape) for name, tensor in smallest.state_dict().items()}["head.weight"] == (3, 4)


def test_tensors_that_a_forward_makes_are_part_of_its_networks() -> None:
    family = TwoLayersFamily(UNITS, counted=True)
    network = make_supernet(family).eval().extract(family.space.smallest)
    x = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    (came,) = run_model(lower(network, x), {INPUT: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(came), network(x))
    assert family.programs().to_json()["programs"] == {}  # a checkpoint has no constants


class Forward(nn.Module):
    """A network with a forward that a test chooses, a tensor and a number that differ between two templates."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.head, self.function = nn.Linear(7, 12), nn.Linear(12, 3), function
        self.tensor, self.number = torch.rand(12), 1 + torch.rand(()).item()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.function(self, self.first(x)))
        return out


class ForwardFamily(TwoLayersFamily):
    """A family of networks of a test's forward."""

    def __init__(self, label: str, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__(UNITS)
        self.space = SearchSpace([Choice("units", (4, 8, 12))])
        self.blocks = ("first", "head")
        self.label, self.function = label, function

    def template(self) -> nn.Module:
        return Forward(self.function)

    def to_json(self) -> dict[str, Any]:
        return {"label": self.label}


FORWARDS: Mapping[str, tuple[Callable[[Any, Tensor], Tensor], bool, str]] = {
    "plain": (lambda _, x: x.relu(), True, ""),
    "branches on a size": (lambda _, x: x.relu() if x.shape[1] > 9 else x.sigmoid(), False, ""),
    "scales by a size": (lambda _, x: x / x.shape[1], False, ""),
    "scales by an attribute": (lambda net, x: x * net.first.out_features, False, ""),
    "makes a tensor of a size": (lambda _, x: x + torch.arange(x.shape[1]), False, ""),
    "reads a random number": (lambda net, x: x * net.number, False, ""),
    "reads a random tensor": (lambda net, x: x * net.tensor[0], False, ""),
    "divides by the batch": (lambda _, x: x / x.shape[0], False, "export.dynamic-dimension"),
    "makes a tensor of the batch": (lambda _, x: x * torch.ones(len(x), 1), False, "export.dynamic-dimension"),
}


@pytest.mark.parametrize("label", FORWARDS)
def test_networks_are_traced_where_the_program_of_the_largest_is_not_theirs(label: str) -> None:
    function, exact, code = FORWARDS[label]
    family = ForwardFamily(label, function)
    supernet = make_supernet(family).eval()
    assert family.programs().of().exact == exact
    assert bool(family.programs().to_json()["programs"]) == exact  # no checkpoint has programs that are not exact
    x = torch.randn(6, 7, generator=torch.Generator().manual_seed(0))
    for architecture in (family.space.smallest, family.space.largest):
        network = supernet.extract(architecture)
        if code:
            with raises(code):
                lower(network, x)
            continue
        (output,) = run_model(lower(network, x), {INPUT: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(output), network(x), rtol=1e-4, atol=1e-4)  # single precision
        keys = BlockKeys(supernet)
        assert keys.of([architecture]).tolist() == [list(network_of(network, x, family.blocks).block_keys().values())]


def test_threads_get_the_same_programs_of_equal_families(monkeypatch: pytest.MonkeyPatch) -> None:
    both_are_here = threading.Barrier(2)

    class SlowPrograms(family_program.Programs):
        def __init__(self, family: Family) -> None:
            super().__init__(family)
            with suppress(threading.BrokenBarrierError):  # the other thread waits until this one has its programs
                both_are_here.wait(timeout=0.2)

    monkeypatch.setattr(family_program, "_PROGRAMS", {})
    monkeypatch.setattr(family_program, "Programs", SlowPrograms)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(family_program.programs_of, [TwoLayersFamily(UNITS) for _ in range(2)])
    assert first is second


def test_programs_of_the_families_that_were_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family_program, "_PROGRAMS", {})
    monkeypatch.setattr(family_program, "_MOST_FAMILIES", 2)
    families = [ForwardFamily(label, lambda _, x: x) for label in "abc"]
    first, second = map(family_program.programs_of, families[:2])
    assert family_program.programs_of(families[0]) is first
    third = family_program.programs_of(families[2])
    assert family_program.programs_of(families[0]) is first
    assert family_program.programs_of(families[2]) is third
    assert family_program.programs_of(families[1]) is not second


class Attention(nn.Module):
    """Attention of two heads, by torch's function or by products whose scale is a number."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(5, 6)
        self.out, self.fused = nn.Linear(6, 3), fused

    def forward(self, x: Tensor) -> Tensor:
        layers = (self.query, self.key, self.value)
        query, key, value = (layer(x).unflatten(2, (2, -1)).transpose(1, 2) for layer in layers)
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        else:
            mixed = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(-1) @ value
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2)).mean(1)
        return out


class AttentionFamily(TwoLayersFamily):
    """A family whose heads have several sizes."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__({"query.weight": ((2, "size"), ...), "value.weight": ((2, "size"), ...)}, fused=fused)
        self.space = SearchSpace([Choice("size", (1, 2, 3))])

    def template(self) -> nn.Module:
        return Attention(**self.network)

    def example(self, batch_size: int = 1) -> Tensor:
        return torch.zeros(batch_size, 4, 5)


@pytest.mark.parametrize("fused", [True, False])
def test_sizes_of_heads_are_axes_where_a_family_names_them(*, fused: bool) -> None:
    family = AttentionFamily(fused=fused)
    supernet = make_supernet(family).eval()
    x = torch.randn(6, 4, 5, generator=torch.Generator().manual_seed(0))
    assert family.programs().of().exact == fused
    for architecture in (family.space.smallest, family.space.largest):
        network = supernet.extract(architecture)
        (output,) = run_model(lower(network, x), {INPUT: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(output), network(x), rtol=1e-4, atol=1e-5)  # single precision


@pytest.mark.parametrize(
    ("family", "mentions"),
    [
        (TwoLayersFamily({"fist.weight": ("units", ...)}), ["no tensor fist.weight"]),
        (TwoLayersFamily(UNITS, {"units": Axis("units", 12), "depth": Axis("depth", 2)}), ["axis depth"]),
        (TwoLayersFamily(UNITS, {"units": Axis("units", 14)}), ["first.weight", "(12, 7)", "14"]),
        (TwoLayersFamily({**UNITS, "second.weight": ("others", ...)}), ["makes the axes units and others one"]),
        (TwoLayersFamily(UNITS, divided=True), ["divides the axis units"]),
        (TwoLayersFamily(UNITS, ordered=True), ["axis units of its full size", "cumsum"]),
        (
            TwoLayersFamily({"head.weight": ("units", ...)}, {"units": Axis("units", 3)}),
            ["axis units", "size 12", "1 to 3"],
        ),
        (TwoLayersFamily({"head.weight": ("units", ...)}, {"units": Axis("units", 3)}), []),
    ],
    ids=["tensor", "axis", "size", "one", "divided", "ordered", "larger", "outputs"],
)
def test_names_that_do_not_fit_the_network_are_rejected(family: Family, mentions: list[str]) -> None:
    if not mentions:  # a family may choose its outputs
        family.space = SearchSpace([Choice("units", (2, 3))])
        assert family.dims()["head.bias"] == ("units",)
        return
    with raises("family.inconsistent", *mentions):
        family.dims()


class StatedFamily(TwoLayersFamily):
    """A family whose sizes, dropped modules and template a test chooses."""

    def __init__(
        self,
        options: tuple[Option, ...] = (4, 12),
        named: Mapping[str, NamedDims] = UNITS,
        template: Callable[[], Any] = TwoLayers,
        **stated: Any,
    ) -> None:
        super().__init__(named)
        self.space = SearchSpace([Choice("units", options)])
        self.made, self.stated = template, stated

    def template(self) -> nn.Module:
        return self.made()  # type: ignore[no-any-return]

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        return self.stated.get("sizes") or super().sizes(architecture)

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        return frozenset(self.stated.get("dropped", ()) if architecture == self.space.smallest else ())

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "template": repr(self.made), "stated": repr(self.stated)}


@pytest.mark.parametrize(
    ("family", "mentions"),
    [
        (StatedFamily((4.0, 12.0)), ["sizes", "axis units", "size 12.0 where units is 12.0", "whole number"]),
        (StatedFamily((4, "wide")), ["sizes", "axis units", "size 'wide' where units is wide", "whole number"]),
        (StatedFamily((0, 12)), ["sizes", "axis units", "size 0 where units is 0", "1 to 12"]),
        (StatedFamily((4, 7, 9, 13, 12)), ["sizes", "axis units", "size 13 where units is 13", "1 to 12"]),
        (StatedFamily(named={"first.weight": ("width", ...)}), ["sizes", "axis width", "override sizes"]),
        (StatedFamily(sizes={"others": 12}), ["named dims", "axis others"]),
        (StatedFamily(dropped=["second", "third"]), ["dropped", "third", "where units is 4"]),
        (StatedFamily(named={}), ["named_dims", "no axis", "networks are the same"]),
        (StatedFamily(template=lambda: None), ["template", "NoneType", "torch.nn.Module"]),
        (StatedFamily(template=nn.ReLU), ["template", "ReLU", "parameters"]),
    ],
    ids=["float", "text", "zero", "between", "choice", "sizes", "dropped", "none", "template", "parameters"],
)
def test_methods_that_return_something_else_are_named(family: Family, mentions: list[str]) -> None:
    with raises("family.inconsistent", *mentions):
        make_supernet(family)


def test_a_family_may_have_layers_to_drop_alone() -> None:
    family = StatedFamily(named={}, template=lambda: nn.Sequential(nn.Linear(7, 7), nn.Linear(7, 7)), dropped=["0"])
    supernet, x = make_supernet(family).eval(), torch.ones(2, 7)
    assert [supernet.cost(architecture).parameters for architecture in family.space.enumerate()] == [56, 112]
    assert list(family.dims().values()) == [(7, 7), (7,)] * 2
    network = supernet.extract(family.space.smallest)
    torch.testing.assert_close(network(x), supernet(x, family.space.smallest))
    (output,) = run_model(lower(network, x), {INPUT: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(output), network(x))


def test_programs_are_the_same_wherever_they_are_captured() -> None:
    family = MobileCNNFamily(MOBILE_CNN["digits"], image_size=8, channels=1, n_classes=3)
    expected = Programs(family).to_json()
    with torch.device("meta"):
        assert Programs(family).to_json() == expected


class TestCheckpoints:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A checkpoint of a small decoder, which has several programs."""
        description = FAMILIES["decoder"]
        family = description.load()(description.presets["tiny"], vocabulary=11, positions=16, tokens=8)
        supernet = make_supernet(family).eval()
        save_checkpoint(tmp_path, supernet, progress={"epoch": 1, "epochs": 1}, optimizer={})
        return tmp_path

    @pytest.fixture
    def captures(self, monkeypatch: pytest.MonkeyPatch) -> list[object]:
        """A process that has no programs yet, and the modules that it captures."""
        captures: list[object] = []
        capture = family_program.capture_declared

        def counted(module: nn.Module, *rest: Any, **options: Any) -> Any:
            captures.append(module)
            return capture(module, *rest, **options)

        monkeypatch.setattr(family_program, "_PROGRAMS", {})
        monkeypatch.setattr(family_program, "capture_declared", counted)
        return captures

    def test_have_the_programs_of_all_views(self, folder: Path, captures: list[object]) -> None:
        family = load_checkpoint(folder).supernet.family
        for view in (None, *family.views()):
            family.programs().of(view).specialised(family.space.smallest)
        assert captures == []

    def test_without_programs_are_captured(self, folder: Path, captures: list[object]) -> None:
        (folder / PROGRAMS).unlink()  # as those of earlier versions
        load_checkpoint(folder)
        assert len(captures) == 1

    @pytest.mark.parametrize("operation", ["aten.sigmoid.default", "aten.unknown.default"])
    def test_with_programs_of_other_code_are_captured(
        self, folder: Path, captures: list[object], operation: str
    ) -> None:
        data = json.loads((folder / PROGRAMS).read_text())
        data["fingerprint"] = "0" * 16
        data["programs"][""]["calls"][-1]["op"] = operation
        rewrite(folder, json.dumps(data))
        load_checkpoint(folder)
        assert len(captures) == 1

    @pytest.mark.parametrize("content", ["{", "[]", None])
    def test_that_are_damaged_or_changed_are_captured(
        self, folder: Path, captures: list[object], content: str | None
    ) -> None:
        changed = (folder / PROGRAMS).read_text().replace('"aten.silu.default"', '"aten.sigmoid.default"')
        assert changed != (folder / PROGRAMS).read_text()
        (folder / PROGRAMS).write_text(changed if content is None else content)
        assert load_checkpoint(folder).supernet.family.axes
        assert len(captures) == 1

    def test_of_a_plug_in_whose_functions_changed_are_captured(
        self, tmp_path: Path, captures: list[object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        family = ForwardFamily("changing", lambda _, x: x.relu())
        save_checkpoint(tmp_path, make_supernet(family), progress={"epoch": 1, "epochs": 1}, optimizer={})
        changing = ForwardFamily("changing", lambda _, x: x.sigmoid())
        monkeypatch.setattr(family_program, "_PROGRAMS", {})
        monkeypatch.setattr(checkpoint, "family_from_json", lambda _: changing)
        supernet = load_checkpoint(tmp_path).supernet.eval()
        assert len(captures) == 2
        network, x = supernet.extract(supernet.space.smallest), torch.ones(2, 7)
        (output,) = run_model(lower(network, x), {INPUT: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(output), network(x))


def rewrite(folder: Path, programs: str) -> None:
    """Replaces the programs of a checkpoint, as another version would."""
    (folder / PROGRAMS).write_text(programs)
    index = json.loads((folder / INDEX).read_text())
    digest = hashlib.sha256(programs.encode()).hexdigest()
    (folder / INDEX).write_text(json.dumps({**index, "programs_sha256": digest}))


class Convolutions(nn.Module):
    """Two convolutions with paddings that a test chooses, the second of them by halves."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 5, **settings)
        self.second = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.second(self.first(x).relu()).relu().mean((2, 3)))
        return out


class KernelFamily(TwoLayersFamily):
    """A family of elastic kernels, perhaps of several in one convolution."""

    def __init__(self, named: NamedDims = (4, 2, "side", "side"), **settings: Any) -> None:
        super().__init__({"first.weight": named})
        self.settings = settings
        self.axes = {name: Axis(name, 5, "centre") for name in ("side", "width") if name in named}
        self.space = SearchSpace([Choice(name, (1, 3, 5)) for name in self.axes])

    def template(self) -> nn.Module:
        return Convolutions(self.settings)

    def example(self, batch_size: int = 1) -> Tensor:
        return torch.zeros(batch_size, 2, 9, 9)

    def to_json(self) -> dict[str, Any]:
        return {"named": repr(self.named), "settings": self.settings, "space": self.space.to_json()}


@pytest.mark.parametrize(
    "family",
    [
        KernelFamily(padding=2),
        KernelFamily(padding=2, stride=2),
        KernelFamily(padding=4, dilation=2),
        KernelFamily(padding=6, dilation=3, stride=2),
        KernelFamily(padding="same", dilation=2),
        KernelFamily(padding=2, padding_mode="reflect"),
        KernelFamily(padding=4, padding_mode="reflect", dilation=2, stride=2),
        KernelFamily(padding=4, padding_mode="replicate", dilation=2),
        KernelFamily(padding=4, padding_mode="circular", dilation=2),
        KernelFamily(padding="same", padding_mode="reflect"),
        KernelFamily((4, 2, "side", "width"), padding=(2, 4), dilation=(1, 2)),
        KernelFamily((4, 2, 5, "width"), padding=(0, 2), padding_mode="reflect"),
    ],
    ids=lambda family: repr(family.settings),
)
def test_kernels_are_axes_where_their_padding_keeps_the_centre(family: KernelFamily) -> None:
    supernet = make_supernet(family).eval()
    assert family.programs().of().exact
    x = torch.randn(6, 2, 9, 9, generator=torch.Generator().manual_seed(0))
    for architecture in family.space.enumerate():
        sizes = family.sizes(architecture)
        network, wide = supernet.extract(architecture), supernet.extract(family.space.largest)
        centre = [
            (5 - sizes.get(name, 5)) // 2 if isinstance(name, str) else 0 for name in family.named["first.weight"]
        ]
        inside = torch.zeros(5, 5)
        inside[centre[2] : 5 - centre[2], centre[3] : 5 - centre[3]] = 1
        with torch.no_grad():
            wide.first.weight.mul_(inside)  # type: ignore[union-attr, operator]
            expected = wide(x)
            torch.testing.assert_close(supernet(x, architecture), expected)
            torch.testing.assert_close(network(x), expected)
        (output,) = run_model(onnx_model(network, x), {INPUT: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(output), expected, rtol=1e-4, atol=1e-5)  # single precision


def test_options_of_kernels_that_have_no_centre_are_rejected() -> None:
    family = KernelFamily(padding=2)
    family.space = SearchSpace([Choice("side", (1, 2, 5))])
    with raises("family.inconsistent", "axis side", "size 2 where side is 2", "an odd number"):
        make_supernet(family)


@pytest.mark.parametrize("settings", [{"padding": 1}, {"padding": 2, "dilation": 2}, {}])
def test_other_kernels_are_rejected_with_the_padding_that_they_need(settings: Mapping[str, Any]) -> None:
    with raises("family.inconsistent", "axis side", "padding is dilation * (size - 1) / 2", "leave the axis out"):
        KernelFamily(**settings).dims()


class PaddedOnce(nn.Module):
    """Pads as its own convolution with the largest kernel needs, perhaps for a second convolution, too."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 5)
        self.second = nn.Conv2d(2, 4, 5) if shared else None
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        padded = nn.functional.pad(x, (2,) * 4, mode="reflect")
        hidden = nn.functional.conv2d(padded, self.first.weight).mean((2, 3))
        if self.second is not None:
            hidden = hidden + nn.functional.conv2d(padded, self.second.weight).mean((2, 3))
        out: Tensor = self.head(hidden)
        return out


class PaddedOnceFamily(KernelFamily):
    """A family of networks whose padding does not follow their kernels."""

    def template(self) -> nn.Module:
        return PaddedOnce(**self.settings)


@pytest.mark.parametrize(
    ("shared", "mentions"),
    [(False, ["{'side': 1}", "leave the axis out"]), (True, ["axis side", "no other layer reads the padded input"])],
    ids=["fixed", "shared"],
)
def test_kernels_whose_padding_stays_are_rejected(*, shared: bool, mentions: list[str]) -> None:
    with raises("family.inconsistent", "dilation * (size - 1) / 2", *mentions):
        make_supernet(PaddedOnceFamily(shared=shared))


class Layers(nn.Module):
    """A linear layer, a layer that a test chooses, and a linear layer."""

    def __init__(self, middle: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first, self.middle, self.head = nn.Linear(7, 12), middle(), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.middle(self.first(x).unsqueeze(2))
        out: Tensor = self.head((hidden[0] if isinstance(hidden, tuple) else hidden).flatten(1))
        return out


class Recurrent(nn.LSTM):
    """An LSTM over one step."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        out: Tensor = super().forward(x.transpose(1, 2))[0]
        return out


class Attending(nn.MultiheadAttention):
    """Attention of one token to itself."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        x = x.transpose(1, 2)
        out: Tensor = super().forward(x, x, x)[0]
        return out


class Reshaping(nn.Module):
    """Reads a size from an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.units = 12

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), self.units)


class Rescaling(nn.Module):
    """Has a tensor that its method `fit` expects under another name."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(12, 1))

    def fit(self, weights: Mapping[str, Tensor]) -> None:
        self.units = len(weights["weight"])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Tied(nn.Module):
    """A linear layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.once = nn.Linear(1, 1)
        self.again = self.once

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.again(self.once(x))
        return out


class Shifting(nn.Module):
    """Adds a buffer that checkpoints lack."""

    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.ones(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


def doubled(module: nn.Module, *, before: bool = False, replaced: bool = False) -> nn.Module:
    """A layer whose outputs or inputs are doubled by a hook, or by a function in place of its forward."""
    if replaced:
        module.forward = lambda x: 2 * x
    elif before:
        module.register_forward_pre_hook(lambda _, inputs: (2 * inputs[0],))
    else:
        module.register_forward_hook(lambda *values: 2 * values[-1])
    return module


class LayersFamily(TwoLayersFamily):
    """A family of networks with a layer that a test chooses."""

    def __init__(self, middle: Callable[[], nn.Module], units: Dim = "units") -> None:
        super().__init__({"first.weight": (units, ...)})
        self.axes = {"units": Axis("units", 12 if units == "units" else 3)}
        self.space = SearchSpace([Choice("units", (1, 2, self.axes["units"].size))])
        self.middle = middle

    def template(self) -> nn.Module:
        return Layers(self.middle)

    def to_json(self) -> dict[str, Any]:
        return {"middle": repr(self.middle()), "named": repr(self.named)}


@pytest.mark.parametrize(
    ("middle", "mentions"),
    [
        (lambda: Recurrent(12, 12, batch_first=True), ["middle (Recurrent)", "no rule", "fit(weights)"]),
        (lambda: Attending(12, 2, batch_first=True), ["middle (Attending)", "no rule", "fit(weights)"]),
        (Reshaping, ["RuntimeError in middle", "test_family_program.py", "fit(weights)", "without tensors"]),
        (Rescaling, ["KeyError in middle", "'weight'", "fit(weights)"]),
        (Tied, ["one tensor under two names, middle.once.weight and middle.again.weight", "functional.linear"]),
        (Shifting, ["buffer middle.shift", "persistent"]),
        (lambda: doubled(nn.Sigmoid()), ["middle (Sigmoid)", "hooks", "forward"]),
        (lambda: doubled(nn.ReLU(), before=True), ["middle (ReLU)", "hooks", "forward"]),
        (lambda: doubled(nn.Tanh(), replaced=True), ["middle (Tanh)", "forward", "make it a class"]),
    ],
    ids=["lstm", "attention", "attribute", "fit", "tied", "buffer", "hook", "pre-hook", "replaced forward"],
)
def test_layers_that_cannot_be_made_smaller_are_named_when_the_family_is_made(
    middle: Callable[[], nn.Module], mentions: list[str]
) -> None:
    with raises("family.inconsistent", "middle", *mentions):
        make_supernet(LayersFamily(middle))


@pytest.mark.parametrize(
    "family",
    [
        LayersFamily(lambda: nn.GroupNorm(4, 12), (4, "units")),
        LayersFamily(lambda: nn.PReLU(12)),
        LayersFamily(lambda: nn.BatchNorm1d(12)),
        LayersFamily(lambda: nn.InstanceNorm1d(12, affine=True, track_running_stats=True)),
        LayersFamily(lambda: nn.Conv1d(12, 12, 3, padding=1)),
        LayersFamily(lambda: nn.Conv1d(12, 12, 3, padding=1, groups=12)),
    ],
    ids=lambda family: repr(family.middle()),
)
def test_layers_with_a_rule_are_made_smaller(family: LayersFamily) -> None:
    supernet = make_supernet(family).eval()
    assert family.programs().of().exact
    x = torch.randn(6, 7, generator=torch.Generator().manual_seed(0))
    for architecture in family.space.enumerate():
        network = supernet.extract(architecture)
        with torch.no_grad():
            expected = network(x)
            torch.testing.assert_close(supernet(x, architecture), expected)
        (output,) = run_model(onnx_model(network, x), {INPUT: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(output), expected, rtol=1e-4, atol=1e-5)  # single precision


def test_an_object_that_is_no_family_is_rejected() -> None:
    class Former:
        """A family as those of earlier versions, by its methods alone."""

        name = "former"

    with raises("family.inconsistent", "Former", "supernets.sharing.base.Family", HOW_TO_ADD_A_FAMILY):
        make_supernet(Former())  # type: ignore[arg-type]
    with raises("family.inconsistent", "KernelFamily is a class", "instance"):
        make_supernet(KernelFamily)  # type: ignore[arg-type]


def test_transforms_are_of_square_kernels() -> None:
    transform = SharingSpec(kernels="transform")
    family = KernelFamily(padding=4, padding_mode="reflect", dilation=2)
    supernet = make_supernet(family, transform).eval()
    x = torch.randn(6, 2, 9, 9, generator=torch.Generator().manual_seed(0))
    for architecture in family.space.enumerate():
        torch.testing.assert_close(supernet(x, architecture), supernet.extract(architecture)(x))
    with raises("sharing.invalid", "square", "first.weight", "5 and width"):
        make_supernet(KernelFamily((4, 2, 5, "width"), padding=2), transform)
