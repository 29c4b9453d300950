"""The runtimes that run models: the contract, the shipped ones, and the lookup of one by its name."""
