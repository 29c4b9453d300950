"""An own search algorithm over an own space: small forests that read handwritten digits.

Run it, stop it at any moment, even by `kill -9`, and run it again: it continues from search.db.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier

import nas

IMAGES, LABELS = load_digits(return_X_y=True)
SPACE = {"n_estimators": [1, 2, 4, 8, 16], "max_leaf_nodes": [8, 16, 32, 64, 128], "max_features": [2, 4, 8, 16]}


class NearBest(nas.SearchAlgorithm):
    """Asks for the candidates that differ least from the best one so far."""

    def __init__(self, space, objectives, *, seed, constraints=()):
        self.space, self.objective, self.seen = space, objectives[0], {}

    def tell(self, evaluations):
        self.seen |= {e.architecture: (e.failed, self.objective.sign * e.value(self.objective)) for e in evaluations}

    def ask(self, n):
        best = np.array(min(self.seen, key=self.seen.get).genes)
        left = [architecture for architecture in self.space.enumerate() if architecture not in self.seen]
        return sorted(left, key=lambda architecture: np.abs(np.array(architecture.genes) - best).sum())[:n]

    def replay(self, recorded):
        return self.ask(len(recorded))


def evaluate(values):
    forest = ExtraTreesClassifier(random_state=0, **values).fit(IMAGES[:1200], LABELS[:1200])
    nodes = sum(tree.tree_.node_count for tree in forest)
    return {"accuracy": forest.score(IMAGES[1200:], LABELS[1200:]), "nodes": nodes}


if __name__ == "__main__":
    goals = {"accuracy": "maximize", "nodes": "minimize"}
    result = nas.optimize(SPACE, goals, evaluate, algorithm=NearBest, budget=60, store="search.db")
    for point in result.front:
        print(point.described, point.values)
