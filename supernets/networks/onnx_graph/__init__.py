"""ONNX models as graphs: nodes and shapes, their division into blocks, and their bytes."""
