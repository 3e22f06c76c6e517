"""Which of several upstreams gets a call: of two that are drawn by weight, the one with less to do for its weight.

Two choices by chance keep all about equally busy without a look at the others, and workers that do not know of each
other do not all run to the one that has just become free (Mitzenmacher, "The Power of Two Choices in Randomized Load
Balancing", 2001). Where both have as little to do, the one drawn first gets the call, so that a few calls, one after
another, are spread by weight too; where all are busy, calls under way are.
"""

from collections.abc import Callable


def choose(weights: list[int], load: Callable[[int], int], first: float, second: float) -> int:
    """The number of the upstream that gets the next call.

    `load` tells how many calls an upstream has under way, by its number; `first` and `second` are chance, each from 0
    to below 1.
    """
    if len(weights) == 1:
        return 0
    total = sum(weights)
    one = _drawn(weights, first * total, -1)
    other = _drawn(weights, second * (total - weights[one]), one)
    return other if load(other) * weights[one] < load(one) * weights[other] else one


def _drawn(weights: list[int], at: float, besides: int) -> int:
    """The number of the one whose share of the weights `at` falls into, with one left out."""
    last = -1
    for number, weight in enumerate(weights):
        if number == besides:
            continue
        last = number
        if at < weight:
            break
        at -= weight
    return last
