"""Linear layers, convolutions, products of matrices, and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters
from typing import cast

from supernets.errors import LoweringError
from supernets.networks.capture.dimensions import (
    Dimension,
    MismatchError,
    concatenation,
    derived,
    divide,
    find,
    fix,
    product,
    unify,
)
from supernets.networks.capture.inference import Dims, Inference
from supernets.networks.capture.program import Argument, Call, Ref
from supernets.networks.lowering.state import Lowering, ints
from supernets.networks.onnx_graph.ir import Attribute, Value
from supernets.networks.operations.registry import (
    Products,
    ResultDims,
    ResultValues,
    by_rank,
    check_batched,
    dims_of,
    extents,
    is_symbolic_extent,
    lowers,
    n_extents,
    rule_of,
    unify_parameters,
    work_of,
)


@rule_of("linear")
def _linear_dims(ctx: Inference, call: Call) -> ResultDims:
    x, weight = ctx.tensor_dims(call.arguments["input"]), ctx.tensor_dims(call.arguments["weight"])
    unify(x[-1], weight[1])
    unify_parameters(ctx, call, [weight[0]], "bias")
    return [*x[:-1], weight[0]]


@work_of("linear")
def _linear_work(inference: Inference, call: Call) -> Products:
    return [[*inference.dims[call.outputs[0]], dims_of(inference, call.arguments["weight"])[1]]]


@lowers("linear")
def _lower_linear(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    x, weight = low.tensor(a["input"]), low.tensor(a["weight"])
    bias = low.tensor(a["bias"]) if a["bias"] is not None else None
    if low.rank(a["input"]) == 2:
        return low.add("Gemm", x, weight, *([] if bias is None else [bias]), transB=1)
    product = linear(low, x, weight)
    return product if bias is None else low.add("Add", product, bias)


def linear(low: Lowering, x: Value, weight: Value) -> Value:
    """The product of (..., inputs) with a weight (outputs, inputs)."""
    # Runtimes transpose the constant when they load the model.
    return low.add("MatMul", x, low.add("Transpose", weight, perm=(1, 0)))


def _convolved(ctx: Inference, call: Call) -> tuple[Dims, Dims, int]:
    """The dimensions of a convolution's input and weight, and the number of its groups."""
    a = call.arguments
    x, weight = ctx.tensor_dims(a["input"]), ctx.tensor_dims(a["weight"])
    if len(x) != len(weight):
        raise MismatchError("a convolution of one image")
    return x, weight, cast(int, a["groups"])


@rule_of(*by_rank("conv"))
def _convolution_dims(ctx: Inference, call: Call) -> ResultDims:
    x, weight, n_groups = _convolved(ctx, call)
    if n_groups == 1:
        unify(x[1], weight[1])
    else:
        groups, per_group = divide(x[1], [n_groups, find(x[1]).size // n_groups])
        unify(per_group, weight[1])
        same, _ = divide(weight[0], [n_groups, find(weight[0]).size // n_groups])
        ctx.depends(groups=unify(groups, same))
    unify_parameters(ctx, call, [weight[0]], "bias")
    return [x[0], weight[0], *_extents(ctx, call, x[2:], weight[2:])]


def _extents(ctx: Inference, call: Call, x: list[Dimension], kernel: list[Dimension]) -> list[Dimension]:
    """Extents after a convolution; a kernel is elastic where a family declares it and the padding keeps the extents."""
    a, n, after = call.arguments, len(x), extents(ctx, call, 2)
    sizes, strides, dilations = [find(k).size for k in kernel], ints(a["stride"], n), ints(a["dilation"], n)
    pads = _pads(a["padding"], sizes, dilations)
    padding_call = None if any(pads) else _padding_call(ctx, call)
    if padding_call is not None:
        x, pads = ctx.tensor_dims(padding_call.arguments["self"])[2:], _amounts(padding_call)
    halves = dict[int, Dimension]()
    for i, (extent, k, size, dilation) in enumerate(zip(x, kernel, sizes, dilations, strict=True)):
        width = dilation * (size - 1)
        if find(k).centred and not find(k).fixed and size % 2 and 2 * pads[i] == 2 * pads[n + i] == width:
            halves[i] = concatenation([derived(k, -2, 2)] * dilation)
        else:
            fix(k, _UNCENTRED if find(k).centred else "a kernel or an extent of the image")
        if is_symbolic_extent(ctx, extent):
            after[i] = derived(extent, pads[i] + pads[n + i] - width - 1, strides[i])
        else:
            fix(extent, "a kernel or an extent of the image")
    padding = [halves.get(i, pads[i]) for i in range(n)]
    if padding_call is not None and halves:
        ctx.depends(1, pad=tuple(half for half in reversed(padding) for _ in range(2)))
        for i, half in halves.items():
            ctx.dims[padding_call.outputs[0]][2 + i] = concatenation([half, x[i], half])
    elif halves and not isinstance(a["padding"], str):
        ctx.depends(padding=tuple(padding))
    return after


_UNCENTRED = (
    "a kernel is elastic if its size is odd, its padding is dilation * (size - 1) / 2 on both sides, and no other layer reads "
    "the padded input"
)


def _padding_call(ctx: Inference, call: Call) -> Call | None:
    """The call before a convolution by which the same layer pads its input with other numbers than zeros, if there is one."""
    before = ctx.previous
    if before is None or before.name != "pad" or before.arguments["mode"] == "constant":
        return None
    padded = before.outputs[0]
    of_layer = (before.module, Ref(padded)) == (call.module, call.arguments["input"])
    of_extents = len(_amounts(before)) == 2 * (len(ctx.tensor_dims(call.arguments["weight"])) - 2)
    read_once = sum(padded in reader.reads() for reader in ctx.program.calls) == 1
    return before if of_layer and of_extents and read_once and padded not in ctx.program.outputs else None


def _amounts(call: Call) -> tuple[int, ...]:
    """The sizes that a call of `pad` adds before and after each extent, in the order of `_pads`."""
    amounts = cast(tuple[int, ...], call.arguments["pad"])
    return amounts[-2::-2] + amounts[::-2]


@work_of(*by_rank("conv"))
def _convolution_work(inference: Inference, call: Call) -> Products:
    return [[*inference.dims[call.outputs[0]], *dims_of(inference, call.arguments["weight"])[1:]]]


@lowers(*by_rank("conv"), *by_rank("conv_transpose"))
def _lower_convolution(low: Lowering, call: Call) -> ResultValues:
    a, n = call.arguments, n_extents(call)
    check_batched(call, low.rank(a["input"]))
    inputs = [low.tensor(a[name]) for name in ("input", "weight", "bias") if a[name] is not None]
    kernel, strides, dilations = (
        low.shape(a["weight"])[2:],
        ints(a["stride"], n),
        ints(a["dilation"], n),
    )
    settings: dict[str, Attribute] = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    if call.name.startswith("conv_transpose"):
        settings |= {"pads": ints(a["padding"], n) * 2, "output_padding": (extra := ints(a["output_padding"], n))}
        if any(size >= stride for size, stride in zip(extra, strides, strict=True)):
            raise LoweringError(
                "there is no rule for a transposed convolution whose output_padding is not below its stride"
            )
        return low.add("ConvTranspose", *inputs, **settings, group=cast(int, a["groups"]))
    settings["pads"] = _pads(a["padding"], kernel, dilations)
    return low.add("Conv", *inputs, **settings, group=cast(int, a["groups"]))


def _pads(padding: Argument, kernel: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """The padding before and after each dimension; of "same", the odd element comes after."""
    if padding == "valid":
        return (0,) * (2 * len(kernel))
    if padding == "same":
        total = [dilation * (size - 1) for size, dilation in zip(kernel, dilations, strict=True)]
        return (*(n // 2 for n in total), *(n - n // 2 for n in total))
    return ints(padding, len(kernel)) * 2


@rule_of(
    *by_rank("conv_transpose"),
    neutral=("stride", "padding", "output_padding", "dilation"),
)
def _transposed_convolution_dims(ctx: Inference, call: Call) -> ResultDims:
    x, weight, n_groups = _convolved(ctx, call)
    unify(x[1], weight[0])
    out = weight[1]
    if n_groups > 1:
        groups, _ = divide(x[1], [n_groups, find(x[1]).size // n_groups])
        out = product([groups, weight[1]])
        ctx.depends(groups=groups)
    unify_parameters(ctx, call, [out], "bias")
    for extent in [*x[2:], *weight[2:]]:
        fix(extent, "a kernel or an extent of the image")
    return [x[0], out, *extents(ctx, call, 2)]


@work_of(*by_rank("conv_transpose"))
def _transposed_convolution_work(inference: Inference, call: Call) -> Products:
    return [[*dims_of(inference, call.arguments["input"]), *dims_of(inference, call.arguments["weight"])[1:]]]


def _contract(ctx: Inference, a: Dimension, b: Dimension, left: Argument, right: Argument) -> None:
    """Joins the dimensions over which a product sums; between two activations it stays as it is, unless it is declared.

    Their product is usually scaled by a constant of its size (attention).
    """
    joined = unify(a, b)
    if not (ctx.is_state(left) or ctx.is_state(right) or ctx.is_declared(joined)):
        fix(joined, "a size over which two activations are multiplied (the size of a head)")


def _factors(call: Call) -> tuple[Argument, Argument]:
    """The two tensors that a call multiplies."""
    a = call.arguments
    left, right = {"addmm": ("mat1", "mat2"), "baddbmm": ("batch1", "batch2")}.get(
        call.name, ("self", "other" if "other" in a else "mat2")
    )
    return a[left], a[right]


@rule_of("matmul", "mm", "bmm")
def _matmul_dims(ctx: Inference, call: Call) -> ResultDims:
    return _product(ctx, *_factors(call))


def _product(ctx: Inference, left: Argument, right: Argument) -> Dims:
    a, b = ctx.tensor_dims(left), ctx.tensor_dims(right)
    if len(b) == 1:
        _contract(ctx, a[-1], b[0], left, right)
        return a[:-1]
    if len(a) == 1:
        _contract(ctx, a[0], b[-2], left, right)
        return [*b[:-2], b[-1]]
    _contract(ctx, a[-1], b[-2], left, right)
    outer = ctx.broadcast([a[:-2], b[:-2]]) if a[:-2] and b[:-2] else a[:-2] or b[:-2]
    return [*outer, a[-2], b[-1]]


@work_of("matmul", "mm", "bmm", "addmm", "baddbmm")
def _product_work(inference: Inference, call: Call) -> Products:
    left, _ = _factors(call)
    return [[*inference.dims[call.outputs[0]], dims_of(inference, left)[-1]]]


@lowers("matmul", "bmm", "mm")
def _lower_matmul(low: Lowering, call: Call) -> ResultValues:
    return low.add("MatMul", *map(low.tensor, _factors(call)))


@rule_of("addmm", "baddbmm")
def _add_product_dims(ctx: Inference, call: Call) -> ResultDims:
    return ctx.broadcast([ctx.tensor_dims(call.arguments["self"]), _product(ctx, *_factors(call))])


@lowers("addmm", "baddbmm")
def _lower_add_product(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    if a.get("alpha", 1) != 1 or a.get("beta", 1) != 1:
        raise LoweringError(f"there is no rule for {call.name} with alpha or beta")
    return low.add("Add", low.add("MatMul", *map(low.tensor, _factors(call))), low.tensor(a["self"]))


def _einsum_terms(ctx: Inference, call: Call) -> tuple[list[tuple[str, Argument]], str]:
    """The letters of each operand of an equation, and those of the result; dots and a missing result are written out."""
    operands = cast(tuple[Argument, ...], call.arguments["tensors"])
    inputs, arrow, output = cast(str, call.arguments["equation"]).replace(" ", "").partition("->")
    unused = "".join(letter for letter in ascii_letters if letter not in inputs)
    terms, dotted = [], ""
    for term, operand in zip(inputs.split(","), operands, strict=True):
        n = len(ctx.tensor_dims(operand)) - len(term.replace("...", ""))
        terms.append((term.replace("...", unused[:n][::-1]), operand))  # the last dimensions are the same ones
        dotted = max(dotted, unused[:n][::-1] if "..." in term else "", key=len)
    if not arrow:
        letters = inputs.replace(",", "").replace("...", "")
        output = "..." + "".join(letter for letter in sorted(set(letters)) if letters.count(letter) == 1)
    return terms, output.replace("...", dotted)


@rule_of("einsum")
def _einsum_dims(ctx: Inference, call: Call) -> ResultDims:
    terms, output = _einsum_terms(ctx, call)
    by_letter, readers_of = dict[str, Dimension](), dict[str, list[Argument]]()
    for term, operand in terms:
        for letter, dimension in zip(term, ctx.tensor_dims(operand), strict=True):
            by_letter[letter] = unify(by_letter[letter], dimension) if letter in by_letter else dimension
            readers_of.setdefault(letter, []).append(operand)
    for letter, readers in readers_of.items():
        of_activations = len(readers) > 1 and not any(map(ctx.is_state, readers))
        if letter not in output and of_activations and not ctx.is_declared(by_letter[letter]):
            fix(by_letter[letter], "a size over which two activations are multiplied (the size of a head)")
    return [by_letter[letter] for letter in output]


@work_of("einsum")
def _einsum_work(inference: Inference, call: Call) -> Products:
    """A product of two operands loops over all letters, without those that one operand alone has and that are summed first."""
    terms, output = _einsum_terms(inference, call)
    if len(terms) != 2:
        return []
    by_letter = {
        letter: dimension
        for term, operand in terms
        for letter, dimension in zip(term, inference.tensor_dims(operand), strict=True)
    }
    shared = {letter for letter in by_letter if all(letter in term for term, _ in terms)}
    if shared <= set(output):  # nothing is summed: numbers are multiplied one by one
        return []
    return [[dimension for letter, dimension in by_letter.items() if letter in output or letter in shared]]


@lowers("einsum")
def _lower_einsum(low: Lowering, call: Call) -> ResultValues:
    operands = [low.tensor(operand) for operand in cast(tuple[Argument, ...], call.arguments["tensors"])]
    return low.add("Einsum", *operands, equation=cast(str, call.arguments["equation"]))


@rule_of("embedding")
def _embedding_dims(ctx: Inference, call: Call) -> ResultDims:
    weight, indices = (ctx.tensor_dims(call.arguments[name]) for name in ("weight", "indices"))
    fix(weight[0], "the rows of an embedding")
    return [*indices, weight[1]]


@lowers("embedding")
def _lower_embedding(low: Lowering, call: Call) -> ResultValues:
    return low.add("Gather", low.tensor(call.arguments["weight"]), low.tensor(call.arguments["indices"]), axis=0)
