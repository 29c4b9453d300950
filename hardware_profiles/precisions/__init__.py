"""Models in eight and in sixteen bits."""
