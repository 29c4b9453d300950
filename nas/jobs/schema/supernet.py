"""The supernet section of a job file (no torch)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from nas.errors import PluginError, UnknownNameError
from nas.jobs.schema.errors import conflict, missing_key, problem, restated, translate
from nas.jobs.schema.section import Flag, OptionalPath, Section, Settings, plugin_name, whole_number
from nas.jobs.schema.space import PluginSpaceConfig, SpaceConfig, space_config
from nas.plugins import Kind, find, load
from supernets.errors import DimensionError
from supernets.families.registry import FAMILIES, FamilyDescription
from supernets.families.shared.spec import Spec
from supernets.networks.capture.model_names import FRACTIONS, HUB, is_file, is_function, is_onnx
from supernets.sharing.spec import MixtureSpec, SharingSpec


class MixtureConfig(Section):
    """A mixture of supernets; see `MixtureSpec`."""

    experts: int = whole_number(2, 64, default=2)
    """The stored weights of each layer, which are mixed for each architecture."""
    routing: Literal["layer", "neuron"] = "layer"
    """The parts that have their own weights of the mixture: each layer, or each neuron."""
    hidden: int = whole_number(1, 4096, default=64)
    """The width of the network that computes the weights of the mixture from the architecture."""
    constant_input: Flag = False
    """Feeds that network a constant instead of the architecture (an ablation)."""
    layers: Annotated[
        tuple[Annotated[str, Field(strict=True, min_length=1, max_length=1000)], ...],
        Field(description="a list of patterns of modules' names, e.g. [blocks.*.mlp.*]"),
    ] = ()
    """The modules that are mixed; by default all convolutions and linear layers that can be."""


class SharingConfig(Section):
    """The changes of stored weights before they are sliced; see `SharingSpec`."""

    mixture: MixtureConfig | None = None
    """Mixes several stored weights by the architecture."""
    kernels: Literal["centre", "transform"] = "centre"
    """How a smaller kernel is made of a larger one: its centre, or a learned transform of it."""
    correction: Annotated[Literal["least-squares"] | None, Field(description="least-squares")] = None
    """Corrects networks on `calibration_images` before they are scored and exported: their layers (of decoders, the output
    projections) are fitted to the activations of the largest network, without labels."""
    experts: Annotated[Literal["merged"] | None, Field(description="merged")] = None
    """How a pretrained network's layers keep fewer experts: the most used ones (on `calibration_images`), into which the others
    are merged, in place of the first ones alone."""

    def spec(self) -> SharingSpec:
        """The sharing as supernets take it."""
        mixture = None if self.mixture is None else MixtureSpec(**self.mixture.model_dump())
        return SharingSpec(mixture, self.kernels, correction=self.correction, experts=self.experts)


_OF_MODEL = ("arguments", "weights", "granularity", "widths", "keep")
"""Keys that belong to `model`."""
_NOT_OF_MODEL = ("family", "preset", "space", "nested", "from_", "network", "pretrained")
_FOLDER = "transformers:"
_TUNED_RATE, _TUNED_EXAMPLES = 0.001, 200_000
"""Defaults for a trained model's supernet: the peak learning rate, and the number of examples in all of its epochs."""
PARTITION: Literal["co-activation"] = "co-activation"
"""The default partition of the neurons of MLPs that experts are made of."""
_PLAIN = "slice"
_SCHEMES = ("package:", "hub:")
"""Beginnings of the names of pretrained networks that are not paths, as in `supernets.networks.formats.pretrained`."""


class SupernetConfig(Section):
    """The supernet: a family with a preset, a space or both; a trained supernet to start from (`from`); one that is made of a
    pretrained network (`pretrained`), whose space is then within that network; or one of any model (`model`)."""

    family: plugin_name(Kind.FAMILIES, FAMILIES) = "mobile-cnn"  # type: ignore[valid-type]  # made from the registry
    """The kind of networks."""
    preset: Annotated[str | None, Field(strict=True, max_length=64, description="the name of a preset, e.g. tiny")] = (
        None
    )
    """A named space of the family; keys of `space` replace its own."""
    space: SerializeAsAny[SpaceConfig | PluginSpaceConfig] | None = None
    """The options of each dimension, smallest first; beside a preset, only those to replace."""
    nested: Flag = False
    """Gives all layers one choice for each dimension, so that each network contains the smaller ones."""
    sharing: Annotated[
        SharingConfig | None, Field(description="slice, or a mapping with mixture, kernels, correction or experts")
    ] = None
    """How networks share weights: slice takes the first channels of the larger layer. None, which only a job with `from` has,
    stands for the sharing of the trained supernet."""
    from_: Annotated[OptionalPath, Field(alias="from", description="a run's id or a folder")] = None
    """A trained supernet to search without training."""

    network: Annotated[
        str | None,
        Field(strict=True, pattern=r"^[0-9x]+(-[0-9x]+)*\z", description="the key of a network of the run"),
    ] = None
    """The network of the trained supernet that is fine-tuned alone."""
    pretrained: Annotated[
        OptionalPath,
        Field(
            max_length=1000,
            description="the folder of a pretrained network, a GGUF file, package:NAME or hub:OWNER/NAME",
        ),
    ] = None
    """The pretrained network that the supernet is made of."""
    model: Annotated[
        OptionalPath,
        Field(
            max_length=1000,
            description="torchvision:NAME, timm:NAME, transformers:FOLDER, package.module:function or the path of a file "
            "of a captured model or of an ONNX model",
        ),
    ] = None
    """The model that the supernet is made of; its layers become narrower and fewer."""
    arguments: Annotated[
        Settings | None, Field(description="a mapping from arguments to values, e.g. {num_classes: 10}")
    ] = None
    """Arguments of the function that makes the model; ``dequantize: true`` reads quantised weights of an ONNX file as real."""
    weights: Annotated[
        OptionalPath,
        Field(max_length=1000, description="the path of a .safetensors file or a state_dict, package:NAME, or hub"),
    ] = None
    """The model's weights; hub loads those of its library, and package:NAME the only file of weights in a Python package."""
    granularity: Annotated[Literal["layer", "stage", "model"] | None, Field(description="layer, stage or model")] = None
    """The layers that share a choice: none (layer), similar layers of a stage (the default), or all layers of the model."""
    widths: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], ...] | None,
        Field(min_length=1, max_length=16, description="a list of ascending fractions that ends with 1, e.g. [0.5, 1]"),
    ] = None
    """Widths that layers may have, as fractions of the model's."""
    keep: Annotated[
        tuple[Annotated[str, Field(strict=True, min_length=1, max_length=1000)], ...] | None,
        Field(description="a list of patterns of axes and layers, e.g. [head.*]"),
    ] = None
    """The axes and layers that stay as they are in the model; nas inspect prints the names."""
    sort: Annotated[
        Literal["weights", "taylor", "activations", "none"] | None,
        Field(description="weights, taylor, activations or none"),
    ] = None
    """The order of the units of a model or a pretrained network, so that narrower layers have the most important ones:
    by the norm of the weights that read them (the default for a model), by the change of the loss without them, estimated
    from gradients, or (of a model and of the family decoder) by the error that stays without them when the layers that read
    them are fitted again, measured on activations: without labels."""

    partition: Annotated[
        Literal["random", "weights", "co-activation"] | None, Field(description="random, weights or co-activation")
    ] = None
    """How the neurons of a pretrained network's MLPs are divided among the experts of the space: at random, by similar weights
    (balanced clusters), or by those that are active for the same tokens (the default)."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Makes sharing plain, unless the job or a trained supernet has another, and sets the defaults of a
        model's supernet."""
        if not isinstance(data, dict) or (data.get("sharing") is None and data.get("from") is not None):
            return data
        if data.get("model") is not None:
            explicit_values = {key: value for key, value in data.items() if value is not None}
            data = {"granularity": "stage", "widths": FRACTIONS, "keep": (), "sort": "weights", **explicit_values}
        return {**data, "sharing": {} if data.get("sharing") in (None, _PLAIN) else data["sharing"]}

    @field_serializer("sharing", mode="wrap")
    def _sharing_written(self, value: SharingConfig | None, written: SerializerFunctionWrapHandler) -> object:
        return _PLAIN if value == SharingConfig() else written(value)

    @field_validator("space", mode="before")
    @classmethod
    def _check_space(cls, value: object, info: ValidationInfo) -> SpaceConfig | PluginSpaceConfig | None:
        """The space as the family's model of it, which depends on the value of another field."""
        if value is None or "family" not in info.data:
            return None
        family = FAMILIES.get(info.data["family"])
        model = PluginSpaceConfig if family is None else space_config(family.spec)
        try:
            return model.model_validate(value)
        except ValidationError as error:
            raise restated(error, model) from None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.network is not None and self.from_ is None:
            raise missing_key("network", "is a network of a trained supernet; name that supernet in from")
        if self.network is not None and (self.preset is not None or self.space is not None or self.nested):
            raise conflict("network", "is a space of its own; remove preset, space and nested")
        if self.pretrained is not None and self.from_ is not None:
            raise conflict("pretrained", "a trained supernet cannot start from it; remove pretrained or from")
        if self.model is not None:
            self._check_model()
        elif model_keys := sorted(key for key in _OF_MODEL if getattr(self, key) is not None):
            raise conflict(model_keys[0], "belongs to a supernet of a model; name the model, or remove it")
        elif self.family in FAMILIES:
            self.check_space()
        if self.sort not in (None, "none") and not self.made_of_trained:
            fault = "units are sorted of a model or a pretrained network, and the job names neither"
            raise conflict("sort", f"{fault}; name one, or remove it")
        if self.pretrained is None:
            self._check_without_pretrained()
        if self.sort == "activations" and self.family != "decoder" and self.model is None:
            fault = f"activations are measured of models and the family decoder, got {self.family}"
            raise conflict("sort", f"{fault}; take weights or taylor")
        return self

    @property
    def vocabularies(self) -> tuple[float, ...]:
        """Shares or numbers of a pretrained network's tokens that the space has; () for all."""
        vocabulary = getattr(self.space, "vocabulary", None) if isinstance(self.space, SpaceConfig) else None
        return tuple(sorted(vocabulary or ()))

    def _check_without_pretrained(self) -> None:
        if self.from_ is None and self.vocabularies:
            raise conflict(
                "space.vocabulary",
                "is of a pretrained network's tokens; name it in pretrained, or write data.vocabulary for a trained tokenizer",
            )
        if self.partition is not None:
            raise conflict(
                "partition", "experts are made of a pretrained network's MLPs; name it in pretrained, or remove it"
            )
        if self.from_ is None and self.sharing is not None and self.sharing.experts is not None:
            raise conflict(
                "sharing.experts", "merges a pretrained network's experts; name it in pretrained, or remove this"
            )

    def _check_model(self) -> None:
        for key in _NOT_OF_MODEL:
            if key in self.model_fields_set and getattr(self, key) not in (None, False):
                raise conflict(key.removesuffix("_"), "a supernet of a model has none; remove it, or remove model")
        if self.sharing is not None and self.sharing.kernels != SharingConfig().kernels:
            raise conflict(
                "sharing", "the kernels of a model have one size, so that none is transformed; remove kernels"
            )
        if is_file(str(self.model)):
            for key in ("arguments", "weights"):
                of_function = key == "arguments" and not is_onnx(str(self.model))
                if getattr(self, key) is not None and (of_function or (key == "weights" and self.weights == HUB)):
                    raise conflict(key, "is for a model that is made by a function, and model is a file; remove it")
        if self.widths is not None and (list(self.widths) != sorted(set(self.widths)) or self.widths[-1] != 1):
            raise problem("widths", f"expected ascending fractions that end with 1, got {list(self.widths)}")

    def check_space(self) -> None:
        """Checks preset, space and pretrained by the family's description, which loads the plug-in of a family.

        Raises:
            PydanticCustomError: as `nas.jobs.schema.errors.reported` reports.
            PluginError: the plug-in cannot be loaded.
        """
        presets = self.description.presets
        if self.preset is not None and self.preset not in presets:
            raise problem("preset", str(UnknownNameError("preset", self.preset, presets)), code="job.unknown-name")
        if self.preset is None and self.space is None and self.from_ is None and self.pretrained is None:
            raise missing_key("", f"expected a preset ({', '.join(presets)}), a space, or from (a trained run)")
        if self.pretrained is not None and self.description.pretrained is None:
            *initial, last = (name for name, family in FAMILIES.items() if family.pretrained is not None)
            possible = f"{', '.join(initial)} and {last}"
            raise conflict("pretrained", f"the families {possible} are made of pretrained networks, got {self.family}")
        if self.pretrained is not None and self.preset is None:
            return  # the space is within the pretrained network's, whose sizes are in its folder
        try:
            spec = self.spec()
        except DimensionError as error:
            missing = error.code == "space.missing-dimension"
            code = "job.missing-key" if missing else "job.invalid-value"
            raise problem(f"space.{error.dimension}", error.text, code=code) from None
        if spec is not None and spec.single:
            raise problem("space", "every list has one option, so there is one network; give some list a second")

    @property
    def description(self) -> FamilyDescription:
        """The registry's entry of the family; for one of a plug-in, its own description."""
        ref = find(Kind.FAMILIES, self.family, FAMILIES)
        if ref is None:
            return FAMILIES[self.family]
        description = getattr(load(ref), "description", None)
        if not isinstance(description, FamilyDescription):
            fault = f"its class attribute description is {type(description).__name__}; expected a FamilyDescription"
            raise PluginError(f"{ref}: {fault}, see {ref.kind.page}", code="plugin.contract")
        return description

    def spec(self, within: Spec | None = None) -> Spec | None:
        """The space: the preset, with the keys of `space` in place of its own; None if only `from` is given.

        With `from` and a space, the trained supernet's space must be this one.

        Args:
            within: the space of the pretrained network, used if no preset is given.
        """
        preset = within if self.preset is None else self.description.presets[self.preset]
        space = self.space
        if isinstance(space, PluginSpaceConfig):
            model = space_config(self.description.spec)
            try:
                space = model.model_validate(space.model_extra)
            except ValidationError as error:
                raise translate(error, model, source="supernet.space") from None
        return preset if space is None else space.spec(preset)

    @property
    def made_of_trained(self) -> bool:
        """True if the supernet is made of a pretrained network or of a model."""
        return self.pretrained is not None or self.model is not None

    @property
    def trains(self) -> bool:
        """True if a job with this section trains: it names no trained supernet, or fine-tunes a network of one."""
        return self.from_ is None or self.network is not None

    def kinds_of_experts(self) -> set[str] | None:
        """Keys of the space by which the networks have experts: `experts` of MLPs, `attention_experts`; None if that depends
        on a plug-in, or on what the supernet is made of."""
        if self.family not in FAMILIES or self.made_of_trained or self.from_ is not None:
            return None
        spec = self.spec()
        return {key for key in ("experts", "attention_experts") if getattr(spec, key, None) is not None}

    def of_user(self, absolute: Callable[[Path], Path]) -> Mapping[str, str]:
        """The keys of the user's model that name files, with absolute paths."""
        path_by_key = {}
        if self.model is not None and is_file(self.model):
            path_by_key["model"] = str(absolute(Path(self.model)))
        elif self.model is not None and self.model.startswith(_FOLDER):
            path_by_key["model"] = f"{_FOLDER}{absolute(Path(self.model.removeprefix(_FOLDER)))}"
        if self.weights is not None and self.weights != HUB and not self.weights.startswith(_SCHEMES):
            path_by_key["weights"] = str(absolute(Path(self.weights)))
        return path_by_key

    @property
    def pretrained_path(self) -> Path | None:
        """`pretrained` if it is the path of a folder, else None."""
        return None if self.pretrained is None or self.pretrained.startswith(_SCHEMES) else Path(self.pretrained)

    @property
    def from_path(self) -> Path | None:
        """`from` if it is a path (it has a slash), else None: then it is a run's id."""
        return Path(self.from_) if self.from_ is not None and "/" in self.from_ else None


def training_of_model(
    supernet: Mapping[str, Any], training: Mapping[str, Any], n_examples: int | None, *, rate: float = _TUNED_RATE
) -> dict[str, Any]:
    """The training of a model's supernet with the defaults of a trained model, unless the model is made without weights.

    Args:
        training: the section as the job has it; what it has stays.
        supernet: the section as the job has it.
        n_examples: Number of examples of the training part; None where that is not known yet.
        rate: the peak learning rate.
    """
    model = str(supernet["model"])
    if supernet.get("weights") is None and (is_function(model) or model.startswith(("torchvision:", "timm:"))):
        return dict(training)
    epochs = {} if n_examples is None else {"epochs": min(max(round(_TUNED_EXAMPLES / n_examples), 3), 20)}
    taught = training.get("teacher") is not None or training.get("strategy") == "largest"
    return {"learning_rate": rate, **epochs, **({} if taught else {"distill": "original"}), **training}
