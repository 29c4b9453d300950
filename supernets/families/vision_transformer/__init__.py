"""The families of vision transformers, vit and vit-encoder, and pretrained ViTs."""
