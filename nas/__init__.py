"""Neural architecture search: joins supernets, predictors and hardware profiles into jobs, runs and fronts."""
