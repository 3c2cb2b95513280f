"""The template of sums of bags against NumPy, on all targets that the machine can run, in guarded memory."""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from template_harness import StandInTarget, guard, guarded, host_targets, ref, run  # noqa: E402

from torsh.compiler import templates  # noqa: E402
from torsh.core import dtype as dtypes  # noqa: E402
from torsh.ops.bags import SUM_OF_BAGS  # noqa: E402

each_target = pytest.mark.parametrize("target", host_targets(), ids=lambda target: target.cpu)
DTYPES = [dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bfloat16]


@each_target
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
def test_random_bags(target: StandInTarget, dtype: dtypes.DType) -> None:
    rng = np.random.default_rng(1)
    for rows, width, bags, count in [(9, 5, 4, 11), (50, 64, 7, 100), (20, 150, 30, 60), (3, 1, 1, 0), (40, 257, 3, 200), (7, 16, 12, 5)]:
        table = guard(rng.standard_normal((rows, width)).astype(dtype.numpy), bool(rng.random() < 0.5))
        index = guard(rng.integers(0, rows, count))
        starts = guard(np.sort(rng.integers(0, count + 1, bags)))
        starts[0] = 0
        each = guard(rng.standard_normal(count).astype(dtype.numpy))
        for weighted in (False, True):
            for padding in (None, 1):
                out = guarded((bags, width), dtype.numpy)
                call = templates.sum_of_bags(dtype, ref(0), ref(1), ref(2), ref(3), ref(4) if weighted else None, bags, count, rows,
                                             width, -1 if padding is None else padding)
                status = run(call, [out, table, index, starts, each], target, 2)
                assert not status.any()
                assert SUM_OF_BAGS.reference is not None
                want = SUM_OF_BAGS.reference((padding, False), table, index, starts, *([each] if weighted else []))
                tolerance = {"float64": 1e-12, "float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}[dtype.name]
                np.testing.assert_allclose(out.astype(np.float64), want.astype(np.float64), rtol=tolerance, atol=tolerance)


@each_target
def test_bad_positions_are_reported_and_bad_starts_touch_nothing(target: StandInTarget) -> None:
    table, starts = guard(np.ones((5, 20), np.float32)), guard(np.array([0, 2]))
    for bad in (5, -1, 1 << 62):
        index, out = guard(np.array([1, 2, bad, 3])), guarded((2, 20), np.float32)
        call = templates.sum_of_bags(dtypes.float32, ref(0), ref(1), ref(2), ref(3), None, 2, 4, 5, 20, -1)
        status = run(call, [out, table, index, starts], target)
        assert list(status[:3]) == [1, bad, 5]
    index, out = guard(np.array([1, 2, 0, 3])), guarded((3, 20), np.float32)
    call = templates.sum_of_bags(dtypes.float32, ref(0), ref(1), ref(2), ref(3), None, 3, 4, 5, 20, -1)
    assert not run(call, [out, table, index, guard(np.array([-7, 3, 1 << 40]))], target).any()
    np.testing.assert_array_equal(out[:, 0], [3, 1, 0])
