"""Hardware profiles: ONNX in, latency with its noise out, measured in a pinned worker process."""
