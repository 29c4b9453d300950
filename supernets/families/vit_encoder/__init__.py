"""The family vit-encoder: vision transformers, laid out as ViT."""
