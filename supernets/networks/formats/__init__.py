"""Files of networks that others wrote: folders of the transformers library, and GGUF."""
