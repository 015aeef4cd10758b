"""All that kernels take from the inside of numba: what it has no name for, written as LLVM instructions.

First views of memory and single instructions, then a vector type: sixty-four numbers at once.
A `Lanes` value lives in vector registers, as many as the machine needs for it. Lane s stands for a subset of six
elements: element e is in it where bit e of s is set. So adding an element to all subsets at once moves lanes, and
tables over subsets of more elements are rows of such blocks. See `pkf_filter.numerics.compiled` for how kernels are
compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic, register_model
from numba.np.arrayobj import populate_array

from pkf_filter.numerics.compiled import compiled

ELEMENTS = 6
LANES = 1 << ELEMENTS
SUMS = 16  # lanes of a sum of products: as wide as one register gets
_FUSED = ["contract"]  # multiply and add in one instruction where the machine has it


@compiled
def integers(memory: Any, count: int) -> Any:
    """The first `count` numbers of float64 memory as int64."""
    return memory[:count].view(np.int64)


@intrinsic
def matrix(_: Any, memory: Any, rows: Any, columns: Any) -> Any:
    """The first rows * columns numbers of flat memory as an array; `reshape` takes as long as to allocate one."""
    kind = types.Array(memory.dtype, 2, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        flat = context.make_array(signature.args[0])(context, builder, arguments[0])
        view, size = context.make_array(kind)(context, builder), flat.itemsize
        strides = builder.mul(arguments[2], size), size
        populate_array(view, flat.data, arguments[1:], strides, size, flat.meminfo, flat.parent)
        return impl_ret_borrowed(context, builder, kind, view._getvalue())

    return kind(memory, types.intp, types.intp), generate


@intrinsic
def count_ones(_: Any, subset: Any) -> Any:
    """Number of elements of a subset (int64): one instruction, which numba has no name for."""
    return subset(subset), lambda _, builder, __, values: builder.ctpop(values[0])


@intrinsic
def lowest_element(_: Any, subset: Any) -> Any:
    """Position of the lowest bit of a non-empty subset (int64)."""
    return subset(subset), lambda context, builder, __, values: builder.cttz(
        values[0], context.get_constant(types.boolean, True)
    )


class Lanes(types.Type):
    """`count` numbers of one floating point type."""

    def __init__(self, element: Any, count: int) -> None:
        self.element, self.count = element, count
        super().__init__(f"Lanes({element}, {count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        element = ir.FloatType() if lanes.element is types.float32 else ir.DoubleType()
        super().__init__(manager, lanes, ir.VectorType(element, lanes.count))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, lanes: Lanes) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), context.get_value_type(lanes).as_pointer())


def _shuffled(builder: Any, lanes: Any, other: Any, mask: list[int]) -> Any:
    return builder.shuffle_vector(lanes, other, ir.Constant(ir.VectorType(ir.IntType(32), len(mask)), mask))


def _spread(builder: Any, number: Any, like: Any) -> Any:
    blank = ir.Constant(like, ir.Undefined)
    first = builder.insert_element(blank, number, ir.Constant(ir.IntType(32), 0))
    return _shuffled(builder, first, blank, [0] * like.count)


def _fused(builder: Any, a: Any, b: Any, total: Any) -> Any:
    return builder.fadd(builder.fmul(a, b, flags=_FUSED), total, flags=_FUSED)


def _loader(count: int) -> Any:
    @intrinsic
    def load(_: Any, array: Any, index: Any) -> Any:
        lanes = Lanes(array.dtype, count)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], lanes)
            value = builder.load(source)
            value.align = array.dtype.bitwidth // 8
            return value

        return lanes(array, types.intp), generate

    return load


load = _loader(LANES)  # load(array, index): all lanes from a flat array, from an index on
load_sums = _loader(SUMS)


@intrinsic
def store(_: Any, array: Any, index: Any, lanes: Any) -> Any:
    """Write all lanes into a flat array from an index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], lanes)
        builder.store(arguments[2], target).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@intrinsic
def zeros(_: Any, array: Any) -> Any:
    """Zeros of the array's type."""
    lanes = Lanes(array.dtype, LANES)
    return lanes(array), lambda context, *_: ir.Constant(context.get_value_type(lanes), [0.0] * LANES)


@intrinsic
def scaled(_: Any, factor: Any, lanes: Any) -> Any:
    """factor * lanes, with a factor of the lanes' type."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.fmul(_spread(builder, arguments[0], arguments[1].type), arguments[1])

    return lanes(lanes.element, lanes), generate


@intrinsic
def add_scaled(_: Any, total: Any, factor: Any, lanes: Any) -> Any:
    """total + factor * lanes, rounded once where the machine can."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return _fused(builder, _spread(builder, arguments[1], arguments[2].type), arguments[2], arguments[0])

    return lanes(lanes, lanes.element, lanes), generate


@intrinsic
def add_products(_: Any, total: Any, a: Any, b: Any) -> Any:
    """total + a * b, with the lanes of the products folded into the fewer of the total."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        value, left, right = arguments
        for first in range(0, LANES, SUMS):
            part = list(range(first, first + SUMS))
            value = _fused(builder, _shuffled(builder, left, left, part), _shuffled(builder, right, right, part), value)
        return value

    return total(total, a, a), generate


@intrinsic
def total_of(_: Any, lanes: Any) -> Any:
    """Sum of all lanes, in double precision."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        total = ir.Constant(ir.DoubleType(), 0.0)
        for lane in range(lanes.count):
            number = builder.extract_element(arguments[0], ir.Constant(ir.IntType(32), lane))
            total = builder.fadd(
                total, number if lanes.element is types.float64 else builder.fpext(number, ir.DoubleType())
            )
        return total

    return types.float64(lanes), generate


def _mover(source: Callable[[int], int | None]) -> Any:
    """A function that fills each lane from lane source(s), or with 0 where that is None."""
    mask = [LANES if (s := source(lane)) is None else s for lane in range(LANES)]

    @intrinsic
    def move(_: Any, lanes: Any) -> Any:
        def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
            none = ir.Constant(arguments[0].type, [0.0] * LANES)
            return _shuffled(builder, arguments[0], none, mask)

        return lanes(lanes), generate

    return move


# One function for each of the elements e. Subsets with e take the number of the subset without it, others 0;
ADDED = [_mover(lambda s, e=1 << e: s ^ e if s & e else None) for e in range(ELEMENTS)]  # type: ignore[misc]
# subsets without e take the number of the subset with it, others 0;
GIVEN = [_mover(lambda s, e=1 << e: None if s & e else s ^ e) for e in range(ELEMENTS)]  # type: ignore[misc]
# subsets without e keep theirs, others 0; subsets with and without e change places.
WITHOUT = [_mover(lambda s, e=1 << e: None if s & e else s) for e in range(ELEMENTS)]  # type: ignore[misc]
SWAPPED = [_mover(lambda s, e=1 << e: s ^ e) for e in range(ELEMENTS)]  # type: ignore[misc]
