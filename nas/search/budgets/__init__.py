"""Networks for limits on costs, solved exactly: additive losses of choices, costs tabulated by block, a linear program."""
