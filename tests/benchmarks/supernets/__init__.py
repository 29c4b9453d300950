"""What the ways of sharing and training weights come to, on real images."""
