"""Neural architecture search: joins supernets, predictors and hardware profiles into jobs, runs and fronts.

A job file, in three lines:

    run = nas.run(nas.load_job("digits-cnn.yaml"))
    print([dict(point.values) for point in run.front])
    run.export("digits.onnx", select="latency_ms<=0.02")

Search as a library, over an own space and function:

    result = nas.optimize(
        {"depth": [1, 2, 3], "width": [8, 16, 32]}, {"accuracy": "maximize", "latency_ms": "minimize"}, evaluate, budget=20
    )
    print([(point.described, point.values) for point in result.front])
"""

import lazy_loader

# The names of `__init__.pyi` are imported when they are first used: the command's help needs no torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
