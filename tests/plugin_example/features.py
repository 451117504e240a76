"""A feature of one's own."""

from features.registry import feature
from features.statistics import Stat

_RETURN = int(Stat.RETURN)


@feature("rise_share_{w}", unit="fraction", needs="price", definition="share of the last w bars that rose")
def rise_share(h, o, t, w):  # type: ignore[no-untyped-def]
    risen = 0.0
    for i in range(t - w + 1, t + 1):
        if h[i, _RETURN] > 0:
            risen += 1.0
    return risen / w
