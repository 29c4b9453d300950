"""The family vit: vision transformers in AutoFormer's space."""
