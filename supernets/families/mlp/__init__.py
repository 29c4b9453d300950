"""The family mlp: multilayer perceptrons for rows of numbers."""
