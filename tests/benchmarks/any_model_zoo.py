"""The models of the any-model benchmark: torchvision's, timm's families, and small random configurations of transformers."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

SIZES = (64, 96, 224, 256)
"""Image sizes to try, the smallest that the model accepts; then timm's own."""
BACKBONES = "backbones of detectors"
"""The collection of the first feature maps of detectors' backbones; `any_model_dense` checks whole detectors and segmenters."""
Inputs = Callable[[int], Tensor]


class First(nn.Module):
    """The first floating-point output of a model, e.g. the last hidden state."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        from supernets.networks.capture.module_call import tensors_of

        return next(tensors_of(self.model(x)))


@dataclass(frozen=True)
class Entry:
    """A model by its collection and name."""

    collection: str
    name: str

    @property
    def key(self) -> str:
        return f"{self.collection}:{self.name}"


def entries() -> list[Entry]:
    """All models of the benchmark."""
    return [*_torchvision(), *_timm(), *(Entry("transformers", name) for name in TRANSFORMERS)]


def _torchvision() -> Iterator[Entry]:
    from torchvision import models

    for name in models.list_models(models):
        yield Entry("classification", name)
    for name in models.list_models(models.segmentation):
        yield Entry("segmentation", name)
    for name in models.list_models(models.video):
        yield Entry("video", name)
    for name in models.list_models(models.detection):
        yield Entry(BACKBONES, name)


def _timm() -> Iterator[Entry]:
    """The two smallest variants of each module by their names, since the construction of all takes many minutes."""
    timm = importlib.import_module("timm")
    registry = importlib.import_module("timm.models._registry")
    families: dict[str, list[str]] = {}
    for name in timm.list_models():
        families.setdefault(registry._model_to_module[name], []).append(name)
    for names in families.values():
        yield from (Entry("timm", name) for name in sorted(names, key=_size)[:2])


_SMALL = ("test", "atto", "femto", "pico", "nano", "xxt", "xxs", "xt", "xs", "tiny", "mini", "micro", "t", "s", "small")
_LARGE = ("b", "base", "m", "medium", "l", "large", "xl", "xlarge", "h", "huge", "g", "giant", "so150m", "so400m")


def _size(name: str) -> tuple[float, float, str]:
    """The words of a name that state a size, then its first number."""
    words = re.findall(r"[a-z]+\d*[a-z]*|\d+", name.partition("_")[2] or name)
    ranks = [_SMALL.index(word) - len(_SMALL) for word in words if word in _SMALL]
    ranks += [1 + _LARGE.index(word) for word in words if word in _LARGE]
    numbers = re.findall(r"\d+", name)
    return (ranks[0] if ranks else 0, float(numbers[0]) if numbers else 0, name)


def build(entry: Entry) -> tuple[nn.Module, Inputs]:
    """A model with random weights in evaluation mode, and its inputs by batch size."""
    torch.manual_seed(0)
    if entry.collection == "transformers":
        return _transformer(entry.name)
    if entry.collection == "timm":
        model = importlib.import_module("timm").create_model(entry.name).eval()
        own = model.pretrained_cfg.get("input_size") or (3, 224, 224)
        fixed = model.pretrained_cfg.get("fixed_input_size") or hasattr(model, "pos_embed")
        shapes = [] if fixed else [(own[0], size, size) for size in SIZES if size < own[1]]
        return First(model), _smallest(model, [*shapes, tuple(own)])
    from torchvision import models

    if entry.collection == BACKBONES:
        detector = models.get_model(entry.name, weights=None, weights_backbone=None)
        return First(detector.backbone.eval()), _smallest(detector.backbone, [(3, size, size) for size in (128, 320)])
    options: dict[str, Any] = {"weights": None}
    if entry.name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    if entry.collection == "segmentation":
        options["weights_backbone"] = None
    model = models.get_model(entry.name, **options).eval()
    if entry.collection == "video":
        return First(model), _smallest(model, [(3, 4, 64, 64), (3, 16, 112, 112), (3, 16, 224, 224)])
    return First(model), _smallest(model, [(3, size, size) for size in (*SIZES, 299)])


def _smallest(model: nn.Module, shapes: list[tuple[int, ...]]) -> Inputs:
    """Random inputs of the first shape that the model accepts."""
    for shape in shapes:
        try:
            with torch.no_grad():
                model.eval()(torch.zeros(2, *shape))
        except Exception as error:
            if shape == shapes[-1]:
                raise error
        else:
            break
    return lambda n: torch.randn(n, *shape, generator=torch.Generator().manual_seed(n))


LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = {**LAYERS, "intermediate_size": 48, "vocab_size": 60}
PADDED = {**TEXT, "pad_token_id": 0}
DECODER = {**PADDED, "num_key_value_heads": 2, "use_cache": False}
OPT = {**LAYERS, "ffn_dim": 48, "vocab_size": 60, "word_embed_proj_dim": 32, "pad_token_id": 0, "use_cache": False}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 60, "n_positions": 40, "use_cache": False}
DISTILLED = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "vocab_size": 60}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 60}
IMAGE = {**LAYERS, "intermediate_size": 48, "image_size": 32, "patch_size": 8}
WINDOWS = {"depths": [1, 2], "num_heads": [2, 4], "embed_dim": 16, "image_size": 32, "patch_size": 2, "window_size": 4}
STAGES = {"depths": [1, 2], "hidden_sizes": [16, 32]}
PYRAMID = {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 16, 32, 32], "num_attention_heads": [1, 2, 4, 4]}
MOBILE = {"image_size": 64, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32]}
WHISPER = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": 60, "max_source_positions": 25, "num_mel_bins": 20,
    "pad_token_id": 0,
}  # fmt: skip
AUDIO = {**TEXT, "conv_dim": (24, 24), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2,
         "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}  # fmt: skip
TRANSFORMERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "bert": ("BertModel", TEXT, "ids"),
    "roberta": ("RobertaModel", PADDED, "ids"),
    "distilbert": ("DistilBertModel", DISTILLED, "ids"),
    "albert": ("AlbertModel", {**TEXT, "embedding_size": 16}, "ids"),
    "electra": ("ElectraModel", {**TEXT, "embedding_size": 16}, "ids"),
    "deberta-v2": ("DebertaV2Model", {**TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}, "ids"),
    "mpnet": ("MPNetModel", PADDED, "ids"),
    "camembert": ("CamembertModel", PADDED, "ids"),
    "xlm-roberta": ("XLMRobertaModel", PADDED, "ids"),
    "modernbert": ("ModernBertModel", {**PADDED, "global_attn_every_n_layers": 1}, "ids"),
    "vit": ("ViTModel", IMAGE, "image"),
    "deit": ("DeiTModel", IMAGE, "image"),
    "beit": ("BeitModel", IMAGE, "image"),
    "dinov2": ("Dinov2Model", {**IMAGE, "mlp_ratio": 2}, "image"),
    "swin": ("SwinModel", WINDOWS, "image"),
    "swinv2": ("Swinv2Model", WINDOWS, "image"),
    "convnext": ("ConvNextModel", {**STAGES, "num_stages": 2}, "image"),
    "convnextv2": ("ConvNextV2Model", {**STAGES, "num_stages": 2}, "image"),
    "resnet": ("ResNetModel", {"depths": [1, 2], "hidden_sizes": [32, 64], "embedding_size": 16}, "image"),
    "mobilevit": ("MobileViTModel", MOBILE, "image64"),
    "segformer": ("SegformerModel", PYRAMID, "image64"),
    "pvt": ("PvtModel", {**PYRAMID, "image_size": 64}, "image64"),
    "gpt2": ("GPT2Model", GPT, "ids"),
    "gpt-neox": ("GPTNeoXModel", {**TEXT, "use_cache": False}, "ids"),
    "opt": ("OPTModel", OPT, "ids"),
    "llama": ("LlamaModel", DECODER, "ids"),
    "mistral": ("MistralModel", DECODER, "ids"),
    "qwen2": ("Qwen2Model", DECODER, "ids"),
    "qwen3": ("Qwen3Model", {**DECODER, "head_dim": 8}, "ids"),
    "gemma": ("GemmaModel", {**DECODER, "head_dim": 8}, "ids"),
    "phi": ("PhiModel", {**DECODER, "num_key_value_heads": 4}, "ids"),
    "t5-encoder": ("T5EncoderModel", T5, "ids"),
    "clip-vision": ("CLIPVisionModel", IMAGE, "image"),
    "clip-text": ("CLIPTextModel", {**TEXT, "eos_token_id": 2}, "ids"),
    "siglip-vision": ("SiglipVisionModel", IMAGE, "image"),
    "siglip-text": ("SiglipTextModel", TEXT, "ids"),
    "whisper-encoder": ("WhisperModel", WHISPER, "mel"),
    "wav2vec2": ("Wav2Vec2Model", AUDIO, "wave"),
    "hubert": ("HubertModel", AUDIO, "wave"),
}
"""By name: the class, its configuration, and the kind of its input."""
_INPUTS: dict[str, tuple[int, ...]] = {
    "ids": (11,), "image": (3, 32, 32), "image64": (3, 64, 64), "mel": (20, 50), "wave": (400,)
}  # fmt: skip


def _transformer(name: str) -> tuple[nn.Module, Inputs]:
    class_name, options, kind = TRANSFORMERS[name]
    model_class = getattr(importlib.import_module("transformers"), class_name)
    model = cast(nn.Module, model_class(model_class.config_class(**options)))
    if name == "whisper-encoder":
        model = cast(nn.Module, model.encoder)
    shape = _INPUTS[kind]

    def inputs(n: int) -> Tensor:
        generator = torch.Generator().manual_seed(n)
        if kind == "ids":
            ids = torch.randint(3, 60, (n, *shape), generator=generator)
            ids[:, -1] = 2  # the end of the text, where CLIP reads its output
            return ids
        return torch.randn(n, *shape, generator=generator)

    return First(model.eval()), inputs
