"""Job files, data sets and models of clients, validated and stored within limits."""
