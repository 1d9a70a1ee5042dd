"""Counts the words of a made-up text, in one of two versions of the same function."""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter


def count_loop(words: list[str]) -> dict[str, int]:
    """The old version."""
    counts: dict[str, int] = {}
    for word in words:
        if word in counts:
            counts[word] += 1
        else:
            counts[word] = 1
    return counts


def count_counter(words: list[str]) -> dict[str, int]:
    """The new version."""
    return Counter(words)


VERSIONS = {"loop": count_loop, "counter": count_counter}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", choices=VERSIONS, required=True)
    parser.add_argument("--words", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rng = random.Random(chosen.seed)
    words = [f"word{int(rng.paretovariate(1.2))}" for _ in range(chosen.words)]
    began = time.perf_counter()
    counts = VERSIONS[chosen.version](words)
    print(f"{len(counts)} different words, counted in {time.perf_counter() - began:.6f} s")


if __name__ == "__main__":
    main()
