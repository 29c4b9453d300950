"""What clients send: job files, data sets, models; checked and stored within limits."""
