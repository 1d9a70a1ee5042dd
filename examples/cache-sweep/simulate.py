"""One run of the sweep: one policy, one cache size, one trace. Prints one line of JSON.

The trace is drawn from a seed: object k of n is asked for with a probability proportional to 1 / k^alpha (Zipf's law).
Longer traces take more memory, and `opt` takes twice as much again; nobody tells `erg` how much.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from policies import POLICIES


def zipf_trace(requests: int, objects: int, alpha: float, seed: int) -> list[int]:
    """Independent draws of object numbers 0 to objects - 1, the most popular first."""
    weights = np.arange(1, objects + 1, dtype=np.float64) ** -alpha
    cumulative = np.cumsum(weights)
    drawn = np.random.Generator(np.random.PCG64(seed)).random(requests)
    ranks: list[int] = np.searchsorted(cumulative, drawn * cumulative[-1]).tolist()
    return ranks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", choices=sorted(POLICIES), required=True)
    parser.add_argument("--size", type=int, required=True, help="objects that fit in the cache")
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--objects", type=int, required=True)
    parser.add_argument("--alpha", type=float, required=True, help="skew: 0 is uniform, 1 the classic law")
    parser.add_argument("--seed", type=int, required=True)
    chosen = parser.parse_args()
    if chosen.size < 1 or chosen.requests < 1 or chosen.objects < 1:
        parser.error("--size, --requests and --objects have to be at least 1")
    trace = zipf_trace(chosen.requests, chosen.objects, chosen.alpha, chosen.seed)
    hits = POLICIES[chosen.policy](trace, chosen.size)
    print(json.dumps({**vars(chosen), "hits": hits, "miss_ratio": 1 - hits / chosen.requests}))


if __name__ == "__main__":
    main()
