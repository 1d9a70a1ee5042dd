"""What waits in the store as one node sees it: which offers it could serve, and which files to look for first."""

from __future__ import annotations

from ergates.taskqueue.leasing import in_order
from ergates.taskqueue.node_state import NodeState
from ergates.taskqueue.store import Offer
from ergates.taskqueue.unfit import UnfitClasses


class OffersKnown:
    """The offers of the last exchange, and the classes that no exchange need offer again.

    Args:
        state: the node's books.
        refuse_unfit: lease and refuse what can never fit here (one machine), instead of leaving it to other nodes.
    """

    def __init__(self, state: NodeState, *, refuse_unfit: bool) -> None:
        self._state = state
        self._refuse_unfit = refuse_unfit
        self._unfit = UnfitClasses(state.unfit, lambda: state.capacity.labels)
        self._seen: tuple[Offer, ...] = ()

    def saw(self, offers: tuple[Offer, ...], now_ns: int) -> tuple[str, ...]:
        """Take in what waits now (replaces what was known); returns the paths that should be looked for, sorted."""
        self._seen = offers
        offered = (path for offer in offers for path in offer.requirement.paths)
        return self._state.paths.due((*offered, *self._unfit.paths()), now_ns)

    def worth_leasing(self, now_ns: int) -> list[Offer]:
        """Those that could run here or are ours to refuse, in the order they should be served."""
        if self._refuse_unfit:
            return [offer for offer in in_order(self._seen) if not self._unchecked(offer)]
        self._unfit.offered(self._seen, now_ns)
        unfit = frozenset(self._unfit.ids(now_ns))
        return [offer for offer in in_order(self._seen) if offer.class_id not in unfit and not self._unchecked(offer)]

    def unfit_classes(self, now_ns: int) -> tuple[int, ...]:
        """Ids of classes that this node cannot serve as it is."""
        return self._unfit.ids(now_ns)

    def _unchecked(self, offer: Offer) -> bool:
        return bool(offer.requirement.paths) and self._state.paths.unknown(offer.requirement)
