"""Networks as programs: how they are captured, what their operations mean, and how they become ONNX.

- `capture`: from a module to a program with named axes, the proof of these axes, and the users' models.
- `operations`: the one description of each operation: shapes, axes, work, ONNX.
- `lowering` and `onnx_graph`: from a program to ONNX, whole or by block.
- `formats`: the files of others' networks, folders of the transformers library and GGUF.
- `network`, `family_program`: the program of one network, and that of all networks of a family.
- `own_operations`, `tokens`, `resizing`: the operations that this project adds to torch's.
"""
