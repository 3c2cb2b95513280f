"""L-BFGS (Nocedal and Wright, "Numerical optimization", chapters 3 and 7), with a strong Wolfe line search."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Final

import torsh
from torsh.core.errors import InvalidArgumentError, TorshError
from torsh.optim.optimizer import Optimizer, check_lr, to_scalar

CURVATURE: Final = 0.9          # c2 of the Wolfe conditions
DECREASE: Final = 1e-4          # c1
STATE_ORDER: Final = ("al", "d", "t", "old_dirs", "old_stps", "ro", "H_diag", "prev_flat_grad", "prev_loss")
Point = tuple[float, float, Any, float]     # step length, loss, gradient, slope along the direction


class LineSearchError(TorshError, RuntimeError):
    """A line search that does not exist."""


def cubic_minimum(a: Point, b: Point) -> float:
    """Where the cubic through two points with their slopes is smallest, between the points; else the middle."""
    (x1, f1, _, g1), (x2, f2, _, g2) = (a, b) if a[0] <= b[0] else (b, a)
    if x1 == x2:
        return x1
    d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = d1 * d1 - g1 * g2
    if not square >= 0:
        return (x1 + x2) / 2.0
    d2 = math.sqrt(square)
    denominator = g2 - g1 + 2 * d2
    if denominator == 0:
        return (x1 + x2) / 2.0
    return min(max(x2 - (x2 - x1) * ((g2 + d2 - d1) / denominator), x1), x2)


def extrapolated(a: Point, b: Point) -> float:
    """The next step length beyond ``b``: the cubic's minimum, kept between small and tenfold growth."""
    low, high = b[0] + 0.01 * (b[0] - a[0]), b[0] * 10
    (x1, f1, _, g1), (x2, f2, _, g2) = a, b
    d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = d1 * d1 - g1 * g2
    if not square >= 0:
        return (low + high) / 2.0
    d2 = math.sqrt(square)
    denominator = g2 - g1 + 2 * d2
    if denominator == 0:
        return (low + high) / 2.0
    return min(max(x2 - (x2 - x1) * ((g2 + d2 - d1) / denominator), low), high)


class WolfeSearch:
    """Line search for a step length that satisfies the strong Wolfe conditions."""

    def __init__(self, evaluate: Callable[[float], tuple[float, Any, float]], start: Point, reach: float,
                 limit: int) -> None:
        self.evaluate = evaluate
        self.start = start          # at step length 0
        self.reach = reach          # largest change of a parameter for a step length of 1
        self.limit = limit
        self.evaluations = 0
        self.iterations = 0

    def at(self, t: float) -> Point:
        """Loss, gradient and slope at a step length."""
        self.evaluations += 1
        return (t, *self.evaluate(t))

    def too_high(self, point: Point) -> bool:
        """Does the point violate the condition of sufficient decrease?"""
        return point[1] > self.start[1] + DECREASE * point[0] * self.start[3]

    def flat(self, point: Point) -> bool:
        """Does the point satisfy the condition on the slope?"""
        return abs(point[3]) <= -CURVATURE * self.start[3]

    def bracket(self, t: float) -> tuple[list[Point], bool]:
        """Two points with a solution between them, or one that is a solution."""
        previous, current = self.start, self.at(t)
        while self.iterations < self.limit:
            if self.too_high(current) or (self.iterations > 1 and current[1] >= previous[1]):
                return [previous, current], False
            if self.flat(current):
                return [current], True
            if current[3] >= 0:
                return [previous, current], False
            t = extrapolated(previous, current)
            previous, current = current, self.at(t)
            self.iterations += 1
        return [self.start, current], False

    def run(self, t: float, tolerance: float) -> Point:
        """The best point found."""
        points, done = self.bracket(t)
        if done:
            return points[0]
        stalled = False
        low, high = (0, 1) if points[0][1] <= points[1][1] else (1, 0)
        while self.iterations < self.limit:
            width = abs(points[1][0] - points[0][0])
            if width * self.reach < tolerance:
                break
            t, stalled = self.inside(points, cubic_minimum(points[0], points[1]), 0.1 * width, stalled)
            new = self.at(t)
            self.iterations += 1
            if self.too_high(new) or new[1] >= points[low][1]:
                points[high] = new
                low, high = (0, 1) if points[0][1] <= points[1][1] else (1, 0)
                continue
            finished = self.flat(new)
            if not finished and new[3] * (points[high][0] - points[low][0]) >= 0:
                points[high] = points[low]
            points[low] = new
            if finished:
                break
        return points[low]

    @staticmethod
    def inside(points: list[Point], t: float, margin: float, stalled: bool) -> tuple[float, bool]:
        """Keep the next step length away from the ends of the bracket if it comes near them twice."""
        smallest, largest = min(p[0] for p in points), max(p[0] for p in points)
        if min(largest - t, t - smallest) >= margin:
            return t, False
        if stalled or t >= largest or t <= smallest:
            return (largest - margin if abs(t - largest) < abs(t - smallest) else smallest + margin), False
        return t, True


class LBFGS(Optimizer):
    """Quasi-Newton method with limited memory; :meth:`step` needs a closure. Arguments and state are PyTorch's.

    Raises ValueError for more than one parameter group.
    """

    def __init__(self, params: Iterable[Any], lr: Any = 1, max_iter: int = 20, max_eval: int | None = None,
                 tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100,
                 line_search_fn: str | None = None) -> None:
        check_lr(lr)
        super().__init__(params, {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size,
            "line_search_fn": line_search_fn})
        if len(self.param_groups) != 1:
            raise InvalidArgumentError("LBFGS doesn't support per-parameter options (parameter groups)")

    def _gradient(self) -> Any:
        """All gradients as one vector."""
        parts = []
        for p in self.param_groups[0]["params"]:
            g = p.grad
            if g is None:
                g = torsh.zeros_like(p)
            elif getattr(g, "is_sparse", False):
                g = g.to_dense()
            parts.append((torsh.view_as_real(g) if g.is_complex() else g).reshape(-1))
        return torsh.cat(parts, 0)

    def _move(self, size: float, direction: Any) -> None:
        """Move the parameters along a direction."""
        offset = 0
        for p in self.param_groups[0]["params"]:
            n = 2 * p.numel() if p.is_complex() else p.numel()
            step = direction[offset:offset + n]
            p.add_(torsh.view_as_complex(step.view(*p.shape, 2)) if p.is_complex() else step.view_as(p), alpha=size)
            offset += n

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Minimise for up to ``max_iter`` iterations; ``closure`` clears the gradients, runs backward, returns the loss."""
        def evaluate() -> Any:
            with torsh.enable_grad():
                return closure()
        with torsh.no_grad():
            return self._minimise(evaluate)

    def _minimise(self, evaluate: Callable[[], Any]) -> Any:
        group = self.param_groups[0]
        state = self.state[group["params"][0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        first_loss = evaluate()
        loss, gradient = float(first_loss), self._gradient()
        state["func_evals"] += 1
        if float(gradient.abs().max()) <= group["tolerance_grad"]:
            return first_loss
        self._iterate(evaluate, state, loss, gradient)
        for name in STATE_ORDER:
            if name in state:
                state[name] = state.pop(name)
        return first_loss

    def _iterate(self, evaluate: Callable[[], Any], state: Any, loss: float, gradient: Any) -> None:
        """The iterations of one step."""
        group = self.param_groups[0]
        evaluations = 1
        for iteration in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            self._direct(state, group["history_size"], gradient)
            direction = state["d"]
            state["prev_flat_grad"], state["prev_loss"] = gradient.clone(), loss
            lr = to_scalar(group["lr"])
            size = min(1.0, 1.0 / float(gradient.abs().sum())) * lr if state["n_iter"] == 1 else lr
            state["t"] = size
            slope = float(gradient.dot(direction))
            if slope > -group["tolerance_change"]:
                break
            last = iteration == group["max_iter"]
            loss, gradient, size, used = self._search(evaluate, (loss, gradient, slope), size, direction,
                                                      group["max_eval"] - evaluations, last)
            state["t"] = size
            evaluations += used
            state["func_evals"] += used
            if last or evaluations >= group["max_eval"] or float(gradient.abs().max()) <= group["tolerance_grad"]:
                break
            if float((direction * size).abs().max()) <= group["tolerance_change"] or \
                    abs(loss - state["prev_loss"]) < group["tolerance_change"]:
                break

    def _direct(self, state: Any, history: int, gradient: Any) -> None:
        """The next direction: minus the gradient times the approximate inverse Hessian (two-loop recursion)."""
        if state["n_iter"] == 1:
            state["d"], state["t"] = gradient.neg(), None
            state["old_dirs"], state["old_stps"], state["ro"], state["H_diag"] = [], [], [], 1
            return
        y, s = gradient - state["prev_flat_grad"], state["d"] * state["t"]
        curvature = float(y.dot(s))
        if curvature > 1e-10:
            for name, value in (("old_dirs", y), ("old_stps", s), ("ro", 1.0 / curvature)):
                if len(state[name]) == history:
                    state[name].pop(0)
                state[name].append(value)
            state["H_diag"] = curvature / float(y.dot(y))
        count = len(state["old_dirs"])
        state.setdefault("al", [None] * history)
        weights, q = state["al"], gradient.neg()
        for i in reversed(range(count)):
            weights[i] = float(state["old_stps"][i].dot(q)) * float(state["ro"][i])
            q = q - state["old_dirs"][i] * weights[i]
        r = q * float(state["H_diag"])
        for i in range(count):
            back = float(state["old_dirs"][i].dot(r)) * float(state["ro"][i])
            r = r + state["old_stps"][i] * (weights[i] - back)
        state["d"] = r

    def _search(self, evaluate: Callable[[], Any], here: tuple[float, Any, float], size: float, direction: Any, limit: int,
                last: bool) -> tuple[float, Any, float, int]:
        """Move along the direction; (loss, gradient, step length, evaluations used) there."""
        group = self.param_groups[0]
        loss, gradient, slope = here
        if group["line_search_fn"] is None:
            self._move(size, direction)
            if last:
                return loss, gradient, size, 0
            return float(evaluate()), self._gradient(), size, 1
        if group["line_search_fn"] != "strong_wolfe":
            raise LineSearchError("only 'strong_wolfe' is supported")
        start = [p.clone() for p in group["params"]]

        def try_length(t: float) -> tuple[float, Any, float]:
            self._move(t, direction)
            value, g = float(evaluate()), self._gradient()
            for p, old in zip(group["params"], start, strict=True):
                p.copy_(old)
            return value, g, float(g.dot(direction))

        search = WolfeSearch(try_length, (0.0, loss, gradient, slope), float(direction.abs().max()), limit)
        size, loss, gradient, _ = search.run(size, 1e-9)
        self._move(size, direction)
        return loss, gradient, size, search.evaluations
