"""How work is cut in blocks, and which of them an invocation does as one."""
from __future__ import annotations

from torsh.codegen.llvm.template_builder import Builder, Operand


def even_blocks(b: Builder, total: Operand, most: Operand) -> Operand:
    """The size of the fewest blocks of about the same size that are no larger than ``most``."""
    return b.ceil_div(total, b.ceil_div(total, most))


def run_of_blocks(b: Builder, unit: str, row_blocks: Operand, column_blocks: Operand
                  ) -> tuple[Operand, Operand, Operand, Operand, Operand]:
    """(item, row block, column block, row blocks, column blocks) of the units that are done as one from ``unit`` on.

    These are whole columns of blocks if all row blocks are ours, else a run of row blocks.
    """
    per_item = b.mul(row_blocks, column_blocks)
    item, rest = b.div(unit, per_item), b.rem(unit, per_item)
    column, row = b.div(rest, row_blocks), b.rem(rest, row_blocks)
    left = b.sub("%end", unit)
    all_rows = b.both(b.equal(row, 0), b(f"icmp sge i64 {left}, {row_blocks}"))
    rows = b.select(all_rows, row_blocks, b.min(left, b.sub(row_blocks, row)))
    columns = b.select(all_rows, b.min(b.div(left, row_blocks), b.sub(column_blocks, column)), 1)
    return item, row, column, rows, columns
