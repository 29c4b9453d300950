"""A cascade of two networks as one conditional ONNX graph for a batch of 1, and the proof that it answers as the two do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from hardware_profiles.runtime import run_calls
from nas.errors import ExportFailedError
from nas.jobs.evaluation.parity import checked_difference
from nas.results.analysis.cascade import confidence
from supernets.networks.module_to_onnx import INPUT, OUTPUT

PASSED_ON = "passed_on"
"""The graph's second output, (1,) bool: whether the large network answered."""


def cascade_graph(small: bytes, large: bytes, threshold: float) -> bytes:
    """The model that runs `small`, and `large` where the confidence of its answer is below the threshold.

    The large network is a branch of the operator If. Inputs are those of the two, with a batch of 1, which the operator's
    condition needs; outputs are the logits (1, classes) and `PASSED_ON`.
    """
    small_model, large_model = (
        compose.add_prefix(onnx.load_model_from_string(model), f"{name}/", rename_inputs=False)
        for name, model in (("small", small), ("large", large))
    )
    for network in (small_model, large_model):
        del network.graph.value_info[:]  # of any batch
    large_graph, logits = large_model.graph, small_model.graph.output[0]
    shape = [1, logits.type.tensor_type.shape.dim[1].dim_value]

    def declared(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def branch(
        name: str, source: str, nodes: Sequence[onnx.NodeProto], weights: Sequence[TensorProto]
    ) -> onnx.GraphProto:
        result = declared(f"{name}/result")
        return helper.make_graph(
            [*nodes, helper.make_node("Identity", [source], [result.name])], name, [], [result], weights
        )

    graph = helper.make_graph(
        [
            *small_model.graph.node,
            helper.make_node("Softmax", [logits.name], ["shares"], axis=1),
            helper.make_node("ReduceMax", ["shares", "axis"], ["confidence"], keepdims=0),
            helper.make_node("Less", ["confidence", "threshold"], [PASSED_ON]),
            helper.make_node(
                "If",
                [PASSED_ON],
                [OUTPUT],
                then_branch=branch("large", large_graph.output[0].name, large_graph.node, large_graph.initializer),
                else_branch=branch("small", logits.name, [], []),
            ),
        ],
        "cascade",
        small_model.graph.input,
        [declared(OUTPUT), helper.make_tensor_value_info(PASSED_ON, TensorProto.BOOL, [1])],
        [
            *small_model.graph.initializer,
            numpy_helper.from_array(np.array([1]), "axis"),
            numpy_helper.from_array(np.array([threshold], np.float32), "threshold"),
        ],
    )
    batch = graph.input[0].type.tensor_type.shape.dim[0]
    batch.Clear()
    batch.dim_value = 1
    imported = sorted(
        (entry.version, entry.domain) for model in (small_model, large_model) for entry in model.opset_import
    )
    domains = {domain: version for version, domain in imported}  # the latest of each
    opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    cascade = helper.make_model(
        graph, opset_imports=opsets, ir_version=max(small_model.ir_version, large_model.ir_version)
    )
    return bytes(cascade.SerializeToString())


def cascade_parity(
    graph: bytes, small: bytes, large: bytes, threshold: float, inputs: Sequence[NDArray[Any]], *, runtime: str
) -> float:
    """The largest difference of a graph's logits from those of the two networks in two steps, over the deviation of these.

    Args:
        graph: Serialised cascade.
        small, large: Serialised networks.
        threshold: Confidence below which an example is passed on.
        inputs: Input of each example, (1, ...).
        runtime: Runtime of all models.

    Raises:
        ExportFailedError: The outputs differ (see `checked_difference`), the graph passes on other examples, or all examples or
            none are passed on.
        ModelError: the runtime rejects the graph.
    """

    def outputs(model: bytes) -> list[NDArray[Any]]:
        answers = run_calls(model, ({INPUT: example} for example in inputs), runtime=runtime)
        return [np.concatenate(calls) for calls in zip(*answers, strict=True)]

    (first,), (second,), (logits, flags) = outputs(small), outputs(large), outputs(graph)
    passed = confidence(first) < threshold
    if passed.all() or not passed.any():
        message = f"one network answers all of {len(inputs)} validation examples, so that a comparison proves nothing"
        raise ExportFailedError(f"the cascade cannot be verified: {message}", code="export.constant-outputs")
    if (n := int((flags != passed).sum())) > 0:
        message = (
            f"the conditional graph passes on other examples than the two networks do: {n} of {len(inputs)} differ"
        )
        raise ExportFailedError(message, code="export.outputs-differ")
    expected = np.where(passed[:, None], second, first)
    return checked_difference(logits, expected, "the conditional graph's outputs differ from the two networks'")
