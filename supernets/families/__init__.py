"""Model families: what a supernet of each kind is made of."""
