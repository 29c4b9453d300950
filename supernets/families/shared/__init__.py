"""What several families share: base classes, layers, and the dimensions of their specs."""
