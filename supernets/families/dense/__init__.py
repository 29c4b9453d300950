"""The families of networks with outputs at every place of an image: detector and segmenter, and their base."""
