"""A search by whittle of one supernet, for `tests.benchmarks.decoder_whittle`: runs in an environment of its own.

    python whittle_search.py FOLDER --strategy random_search --cost parameters --samples 60 --seed 1

FOLDER has ``model.safetensors`` and ``config.json`` (of a Llama, as the transformers library saves it), ``blocks.npy`` (token
ids, (n, block)), ``counted.npy`` (which tokens count, (n, block - 1)) and ``space.json`` (options by the names of choices). It
prints JSON: for each network its options, perplexity, cost, and whether it is on whittle's front.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from syne_tune.config_space import choice  # type: ignore[import-not-found]
from torch.nn import functional
from whittle.metrics import compute_latency, compute_parameters  # type: ignore[import-not-found]
from whittle.models.gpt import GPT, Config  # type: ignore[import-not-found]
from whittle.search import multi_objective_search  # type: ignore[import-not-found]

COSTS = {"parameters": compute_parameters, "latency": compute_latency}


def supernet(folder: Path) -> Any:
    """The network of a folder as whittle's."""
    own, given = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    config = Config(
        name="supernet", block_size=own["max_position_embeddings"], vocab_size=own["vocab_size"],
        padded_vocab_size=own["vocab_size"], n_layer=own["num_hidden_layers"], n_head=own["num_attention_heads"],
        n_query_groups=own["num_key_value_heads"], head_size=own["head_dim"], n_embd=own["hidden_size"],
        intermediate_size=own["intermediate_size"], norm_eps=own["rms_norm_eps"], rope_base=int(own["rope_theta"]),
        rotary_percentage=1.0, parallel_residual=False, bias=False, norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP",
    )  # fmt: skip
    words = given["model.embed_tokens.weight"]
    state = {
        "transformer.wte.weight": words, "lm_head.weight": given.get("lm_head.weight", words),
        "transformer.ln_f.weight": given["model.norm.weight"],
    }  # fmt: skip
    for i in range(config.n_layer):
        ours, theirs = f"model.layers.{i}", f"transformer.h.{i}"
        state[f"{theirs}.attn.qkv.weight"] = torch.cat(
            [given[f"{ours}.self_attn.{name}_proj.weight"] for name in "qkv"]
        )
        names = {
            "self_attn.o_proj": "attn.proj", "mlp.gate_proj": "mlp.fc_1", "mlp.up_proj": "mlp.fc_2",
            "mlp.down_proj": "mlp.proj", "input_layernorm": "norm_1", "post_attention_layernorm": "norm_2",
        }  # fmt: skip
        state |= {f"{theirs}.{new}.weight": given[f"{ours}.{old}.weight"] for old, new in names.items()}
    network = GPT(config)
    network.load_state_dict(state)
    return network.eval()


def select(network: Any, options: dict[str, Any]) -> None:
    """Makes the network that of these options."""
    layers = range(options["depth"])
    network.set_sub_network(
        sub_network_n_embd=options["width"],
        sub_network_n_layers=options["depth"],
        sub_network_num_heads=[options[f"layer{i}.heads"] for i in layers],
        sub_network_intermediate_size=[options[f"layer{i}.hidden"] for i in layers],
    )


@torch.no_grad()
def perplexity(network: Any, blocks: torch.Tensor, counted: torch.Tensor) -> float:
    """Of the tokens that count."""
    total = 0.0
    for ids, own in zip(blocks.split(16), counted.split(16), strict=True):
        logits = network(ids[:, :-1])
        losses = functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        total += float(losses[own].sum())
    return math.exp(total / int(counted.sum()))


def main() -> None:
    """Searches, and prints what it found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--strategy", default="random_search")
    parser.add_argument("--cost", choices=list(COSTS), default="parameters")
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    network = supernet(given.folder)
    blocks, counted = (torch.from_numpy(np.load(given.folder / f"{name}.npy")) for name in ("blocks", "counted"))
    network.max_seq_length = blocks.shape[1] - 1
    space = json.loads((given.folder / "space.json").read_text())

    def objective(options: dict[str, Any]) -> tuple[float, float]:
        select(network, options)
        return perplexity(network, blocks, counted), float(COSTS[given.cost](network))

    found = multi_objective_search(
        objective, {name: choice(own) for name, own in space.items()}, search_strategy=given.strategy,
        num_samples=given.samples, seed=given.seed, verbose=False,
    )  # fmt: skip
    rows = zip(found["configs"], found["costs"].tolist(), found["is_pareto_optimal"], strict=True)
    print(json.dumps([{"options": o, "perplexity": p, "cost": c, "front": f} for o, (p, c), f in rows]))


if __name__ == "__main__":
    main()
