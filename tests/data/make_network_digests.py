"""Makes ``network_digests.json.gz`` anew: digests of networks of every family, as the version in which it runs makes them.

    python -m tests.data.make_network_digests VERSION [NAME=DESCRIPTION ...]

Run it in a checkout of the version to record (``VERSION``, a commit), with this file, ``network_digests.py`` and the recorded
file beside the other test data there. It takes about two minutes; the tests read the committed file. The recorded spaces are
recorded again, with the same networks. Spaces that are added (``DESCRIPTION``: the JSON of a family) are recorded in the
version that has them first: a changed digest of a space here means that networks of users have changed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import numpy as np
import torch

from supernets.space import Architecture, SearchSpace
from tests.data.network_digests import (
    FILE,
    SpaceDigests,
    digest_networks,
    read_digests,
    supernet_from_json,
    write_digests,
)

N_NETWORKS = 60
SEED = 20


def chosen_architectures(space: SearchSpace) -> list[Architecture]:
    """The smallest network, the largest, and random ones: at most `N_NETWORKS` distinct ones, all of a small space."""
    rng = np.random.default_rng(SEED)
    wanted = min(N_NETWORKS, space.size)
    architectures = dict.fromkeys([space.smallest, space.largest])
    while len(architectures) < wanted:
        architectures[space.sample(rng)] = None
    return list(architectures)


def main() -> None:
    """Records every space."""
    version, *added = sys.argv[1:]
    torch.set_num_threads(1)
    spaces = read_digests()
    architectures: dict[str, Sequence[Architecture]] = {
        name: [Architecture.parse(network.architecture) for network in space.networks] for name, space in spaces.items()
    }
    descriptions = {name: space.family for name, space in spaces.items()}
    for argument in added:
        name, _, description = argument.partition("=")
        descriptions[name] = json.loads(description)
        architectures[name] = chosen_architectures(supernet_from_json(descriptions[name]).space)
    recorded = {}
    for name, description in descriptions.items():
        networks = digest_networks(supernet_from_json(description), architectures[name])
        recorded[name] = SpaceDigests(description, tuple(networks))
        print(f"{name}: {len(networks)} networks", flush=True)
    write_digests(recorded, version)
    print(f"{FILE.name}: {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
