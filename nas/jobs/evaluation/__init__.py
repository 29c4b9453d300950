"""How subnets are measured: scored here or on Ray, timed on hardware profiles, and described for predictors."""
