"""What a search optimises: objectives, constraints, Pareto fronts, precision, budget."""
