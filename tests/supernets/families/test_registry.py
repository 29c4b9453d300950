"""`supernets.families.registry`: entries fit the classes that they name, and reading them loads no torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from supernets.families.registry import FAMILIES
from supernets.training.checkpoint import family_from_json
from tests.errors import raises

SIZES = {
    "images": {"image_size": 224, "channels": 3, "n_classes": 10},
    "sentences": {"vocabulary": 50, "positions": 16, "padding": 0, "tokens": 8, "n_classes": 10},
    "texts": {"vocabulary": 50, "positions": 16, "tokens": 8},
    "pairs": {"vocabulary": 50, "separator": 0, "source": 6, "target": 5},
    "rows": {"features": 10, "n_classes": 1},
}


@pytest.mark.parametrize(
    ("name", "preset"), [(name, preset) for name, family in FAMILIES.items() for preset in family.presets]
)
def test_every_preset_makes_its_family_which_survives_json(name: str, preset: str) -> None:
    description = FAMILIES[name]
    spec = description.presets[preset]
    assert type(spec) is description.spec
    family = description.load()(spec, **SIZES[description.data])
    assert family.name == name
    assert not spec.single
    again = family_from_json(family.to_json())
    assert (type(again), again.to_json()) == (type(family), family.to_json())


def test_the_presets() -> None:
    assert {name: set(family.presets) for name, family in FAMILIES.items()} == {
        "mobile-cnn": {"tiny", "mobile", "digits", "ofa", "tiny-v3"},
        "resnet": {"ofa-resnet50", "tiny", "digits"},
        "detector": {"tiny", "tiny-resnet", "mobile"},
        "segmenter": {"tiny", "tiny-resnet", "mobile"},
        "vit": {"tiny", "digits", "autoformer-tiny"},
        "encoder": {"tiny", "instatune", "minilm-l6"},
        "vit-encoder": {"tiny", "digits", "instatune"},
        "decoder": {"tiny", "tiny-gpt2"},
        "encoder-decoder": {"tiny"},
        "mlp": {"tiny", "small"},
    }


def test_specs_are_frozen() -> None:
    spec = FAMILIES["vit"].presets["tiny"]
    with pytest.raises(FrozenInstanceError):
        spec.patch = 2  # type: ignore[attr-defined]  # wrong on purpose


def test_an_unknown_family_of_a_checkpoint_is_refused() -> None:
    with raises("checkpoint.unsupported", "mobil", *FAMILIES):
        family_from_json({"family": "mobil"})


def test_pretrained_configs_are_read_by_functions(tmp_path: Path) -> None:
    for description in FAMILIES.values():
        if description.pretrained is None:
            with pytest.raises(ValueError, match="pretrained"):
                description.pretrained_config(tmp_path)
        else:
            with raises("pretrained.unusable", str(tmp_path)):
                description.pretrained_config(tmp_path)


def test_it_needs_no_torch() -> None:
    code = "import sys, supernets.families.registry; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
