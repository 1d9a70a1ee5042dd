"""What is known about one command shape: peaks, plateaus and wall times of its recent runs.

A run that climbed, stopped climbing and then ended had its last plateau at the top. How often a plateau that
has lasted this long was the last one is learned too: it tells whether a running attempt will still grow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.peak_distribution import PeakDistribution
from ergates.taskqueue.size_feature import SizeFit, fit_sizes
from ergates.taskqueue.store import PastPeak
from ergates.units import Bytes, format_bytes

REMEMBERED = 256
WINDOW = 128
"""Runs remembered: recent enough to follow a change, enough for a 95 % quantile."""
MOST_UNFINISHED = 512
QUIET_HALF_LIFE_NS = 12_000_000_000
REBUILD_NS = 50_000_000
PLATEAU_MIN_NS = 200_000_000
PREDICTED_FRACTION = 0.9
TaskKey = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A peak and, in words, what it rests on."""

    peak_bytes: Bytes
    basis: str


class PeakHistory:
    """One shape's past and present. Peaks are kept in bytes; the distribution is in units of what the size explains."""

    __slots__ = (
        "_built_ns",
        "_dirty",
        "_distribution",
        "_final",
        "_news",
        "_passing",
        "_plain",
        "_shares",
        "_since_fit",
        "_sorted_plateaus",
        "_unknown_bytes",
        "_unknown_half_life_ns",
        "ended",
        "first_seen_ns",
        "fit",
        "longest_wall_ns",
        "name",
        "open",
        "runs",
        "share",
        "wall_ns",
    )

    def __init__(self, name: str, capacity_bytes: int, settings: NodeSettings) -> None:
        self.name = name
        self.runs: deque[tuple[tuple[float, ...], float]] = deque(maxlen=WINDOW)
        self.open: dict[TaskKey, tuple[tuple[float, ...], float, int]] = {}
        """Unfinished runs: features, bytes reached, and when they last grew."""
        self.ended = 0
        self.fit: SizeFit | None = None
        self.wall_ns = 0.0
        self.longest_wall_ns = 0.0
        self.share = 1.0
        """Time average of use over peak: ramps 0.5 to 1, a peak just before the end near 0."""
        self._shares: deque[float] = deque(maxlen=32)
        self.first_seen_ns: int | None = None
        self._unknown_bytes = capacity_bytes * settings.unknown_fraction
        self._unknown_half_life_ns = settings.unknown_half_life_ns
        self._passing: deque[int] = deque(maxlen=WINDOW)
        self._final: deque[int] = deque(maxlen=WINDOW)
        self._news: deque[tuple[int, int, int, int]] = deque(maxlen=REMEMBERED)
        self._sorted_plateaus: tuple[list[int], list[int]] | None = None
        self._since_fit = 0
        self._distribution: PeakDistribution | None = None
        self._plain: Prediction | None = None
        self._built_ns = 0
        self._dirty = False

    # --- learning ---------------------------------------------------------------------------------

    def began(self, now_ns: int) -> None:
        if self.first_seen_ns is None:
            self.first_seen_ns = now_ns

    def reached(self, task: TaskKey, features: tuple[float, ...], reached: int, now_ns: int) -> None:
        """An unfinished run has grown to this much."""
        if task not in self.open and len(self.open) >= MOST_UNFINISHED:
            del self.open[next(iter(self.open))]  # given back or cancelled long ago
        self.open[task] = (features, reached, now_ns)
        self._dirty = True

    def plateau_passed(self, length_ns: int) -> None:
        """A run that had stopped growing for so long grew again."""
        if length_ns >= PLATEAU_MIN_NS:
            self._passing.append(length_ns)
            self._sorted_plateaus = None

    def ended_run(
        self, task: TaskKey, features: tuple[float, ...], peak: int, wall_ns: int, plateau_ns: int, at_ns: int
    ) -> None:
        """A run ended by itself. `peak` 0 when unknown; `plateau_ns` is how long it had not grown at its end.

        `at_ns` 0: recalled from an earlier worker's life, so no news.
        """
        self.open.pop(task, None)
        self.ended += 1
        # 1/8 per run follows a change within tens of runs; the longest fades to half in some 90 runs.
        self.wall_ns = wall_ns if self.ended == 1 else self.wall_ns + (wall_ns - self.wall_ns) / 8
        self.longest_wall_ns = max(wall_ns, self.longest_wall_ns * 0.9925)
        if peak > 0:
            self.runs.append((features, peak))
            self._dirty = True
            self._since_fit += 1
            if at_ns:
                self._news.append((int(features[0]), peak, wall_ns, at_ns))
        if plateau_ns >= PLATEAU_MIN_NS:
            self._final.append(plateau_ns)
            self._sorted_plateaus = None

    def share_seen(self, share: float) -> None:
        """A run used this share of its peak on average over its life."""
        self._shares.append(min(max(share, 0.0), 1.0))
        self.share = (1.0 + sum(self._shares)) / (1 + len(self._shares))  # one imagined run is always at its peak

    def take_news(self) -> list[PastPeak]:
        """Ended runs since the last call, for whoever remembers them."""
        news = [
            PastPeak(shape=self.name, peak_bytes=peak, input_bytes=size or -1, wall_ns=wall_ns, at_ns=at_ns)
            for size, peak, wall_ns, at_ns in self._news
        ]
        self._news.clear()
        return news

    # --- asking -----------------------------------------------------------------------------------

    def distribution(self, now_ns: int) -> PeakDistribution:
        """Peaks divided by `scale(features)`; rebuilt at most every 50 ms."""
        current = self._distribution
        old = now_ns - self._built_ns >= REBUILD_NS
        if current is None or (self._dirty and (old or self.ended < 4)) or (old and self.ended == 0):
            current = self._rebuild(now_ns)
        return current

    def scale(self, features: tuple[float, ...]) -> float:
        """What the size of the input explains of the peak; 1.0 when it explains nothing."""
        if self.fit is None:
            return 1.0
        return self.fit.typical_peak(features) or 1.0

    def settled(self, plateau_ns: int, age_ns: int) -> float:
        """Probability that an attempt on a plateau this long will not grow any more."""
        if plateau_ns < PLATEAU_MIN_NS:
            return 0.0
        if self._sorted_plateaus is None:
            self._sorted_plateaus = (sorted(self._final), sorted(self._passing))
        final, passing = (len(lengths) - bisect_left(lengths, plateau_ns) for lengths in self._sorted_plateaus)
        guess = 0.5 * plateau_ns / max(age_ns, 1)  # weighs as much as two runs
        return (final + 2 * guess) / (final + passing + 2)

    def predict(self, features: tuple[float, ...], floor: int, now_ns: int) -> Prediction:
        """What nine in ten such tasks stay under, and why."""
        distribution = self.distribution(now_ns)
        if self.fit is None and floor == 0 and self._plain is not None:
            return self._plain
        scale = self.scale(features)
        peak = int(distribution.quantile(PREDICTED_FRACTION, floor / scale) * scale)
        name = self.name if len(self.name) <= 60 else self.name[:57] + "..."
        if not self.runs:
            seen = f"{len(self.open)} running" if self.open else "none has run yet"
            basis = f"a guess for `{name}`: {seen}"
        else:
            basis = f"90 % of the last {len(self.runs)} runs of `{name}` stayed under it"
            if self.fit is not None:
                basis += f", scaled by {describe_feature(self.fit)}"
        if floor:
            peak = max(peak, floor)
            basis += f"; at least {format_bytes(floor)} declared or reached before"
        prediction = Prediction(Bytes(peak), basis)
        if self.fit is None and floor == 0:
            self._plain = prediction
        return prediction

    def _rebuild(self, now_ns: int) -> PeakDistribution:
        if self._since_fit >= max(4, min(self.ended // 3, 32)):
            self._since_fit = 0
            self.fit = fit_sizes(self.runs)
        imagined = 0.0
        if not self.runs:
            waited_ns = 0 if self.first_seen_ns is None else max(0, now_ns - self.first_seen_ns)
            imagined = self._unknown_bytes * 0.5 ** (waited_ns / self._unknown_half_life_ns)
        if self.fit is None:
            ended = [peak for _, peak in self.runs]
            reached = [used for _, used, _ in self.open.values()]
        else:
            ended = self._ratios(self.runs)
            reached = self._ratios((features, used) for features, used, _ in self.open.values())
        # Unfinished runs that have not grown for long tell nearly as much as ended ones.
        quiet = sum(1 - 0.5 ** ((now_ns - at_ns) / QUIET_HALF_LIFE_NS) for _, _, at_ns in self.open.values())
        self._distribution = PeakDistribution(ended, reached, imagined, known=len(ended) + quiet)
        self._built_ns = now_ns
        self._dirty = False
        self._plain = None
        return self._distribution

    def _ratios(self, runs: Iterable[tuple[tuple[float, ...], float]]) -> list[float]:
        """Peaks over what their size explains; runs whose size is not known say nothing."""
        assert self.fit is not None
        typical = [(self.fit.typical_peak(features), peak) for features, peak in runs]
        return [peak / scale for scale, peak in typical if scale is not None]


def describe_feature(fit: SizeFit) -> str:
    what = "the size of its input" if fit.feature == 0 else f"number {fit.feature} of the command"
    return f"{what} (power {fit.slope:.2f})" if fit.power else what
