"""An own search algorithm over an own space: small forests that read handwritten digits.

Run it, stop it at any moment, even by `kill -9`, and run it again: it continues from search.db.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier

import nas

IMAGES, LABELS = load_digits(return_X_y=True)


class HillClimb(nas.SearchAlgorithm):
    """Changes one choice of a candidate, often of a good one."""

    def __init__(self, space, objectives, *, seed, constraints=()):
        self.space, self.objective, self.rng, self.seen = space, objectives[0], np.random.default_rng(seed), []

    def tell(self, evaluations):
        self.seen = sorted([*self.seen, *evaluations], key=lambda e: self.objective.sign * e.value(self.objective))

    def ask(self, n):
        known, new = {e.architecture for e in self.seen}, []
        while len(new) < n and len(known) < self.space.size:
            genes = list(self.seen[int(len(self.seen) * self.rng.random() ** 3)].architecture.genes)
            place = self.rng.integers(len(genes))
            genes[place] = self.rng.integers(self.space.levels[place])
            if (child := self.space.canonical(genes)) not in known:
                known.add(child)
                new.append(child)
        return new

    def replay(self, asked):
        return self.ask(len(asked))


def evaluate(values):
    forest = ExtraTreesClassifier(random_state=0, **values).fit(IMAGES[:1200], LABELS[:1200])
    nodes = sum(tree.tree_.node_count for tree in forest)
    return {"accuracy": forest.score(IMAGES[1200:], LABELS[1200:]), "nodes": nodes}


if __name__ == "__main__":
    result = nas.optimize(
        {"n_estimators": [1, 2, 4, 8, 16], "max_leaf_nodes": [8, 16, 32, 64, 128], "max_features": [2, 4, 8, 16]},
        {"accuracy": "maximize", "nodes": "minimize"},
        evaluate, algorithm=HillClimb, budget=60, store="search.db",
    )  # fmt: skip
    for point in result.front:
        print(point.described, point.values)
