"""Weight-sharing supernets: search spaces, shared weights, training, extraction and lowering to ONNX."""
