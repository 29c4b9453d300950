"""The family encoder-decoder: texts made of texts, with attention to any of the last encoder layers."""
