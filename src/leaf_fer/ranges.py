"""The kinds of numbers that options take, so that a range is declared once, in a signature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """An interval of allowed numbers; ``above`` excludes the lower end, ``below`` the upper."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        low = value > self.low if self.above else value >= self.low
        high = value < self.high if self.below else value <= self.high
        return low and high

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'>' if self.above else '>='} {self.low:g}"
        left, right = "(" if self.above else "[", ")" if self.below else "]"
        return f"in {left}{self.low:g}, {self.high:g}{right}"


Fraction = Annotated[float, Range(0, 1)]
ProperFraction = Annotated[float, Range(0, 1, below=True)]
NonNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
