"""What a feature of one's own does wrong is said with its name and the bar, and becomes no number."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import features.registry as registry
from core.events import EVENT, EventKind
from features.kernel import FeatureKernel, StreamSpec

PERP = StreamSpec("perp", 0.1, frozenset(("trades", "ohlcv")))
SECOND = 10**9

OWN = """
from features.registry import feature
from features.statistics import Stat

_PRICE = int(Stat.PRICE)


@feature("own_raises", unit="price", needs="price", definition="fails above 103")
def own_raises(h, o, t, w):
    if h[t, _PRICE] > 103.0:
        raise ValueError("too dear")
    return h[t, _PRICE]


@feature("own_nonsense", unit="price", needs="price", definition="cannot be compiled")
def own_nonsense(h, o, t, w):
    return h[t, _PRICE] + not_there
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    registry.features()
    (tmp_path / "own_features.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    known = dict(registry._FEATURES)
    import own_features  # noqa: F401

    yield
    registry._FEATURES.clear()
    registry._FEATURES.update(known)
    del sys.modules["own_features"]


def _events(prices: list[float]) -> np.ndarray:
    """A trade in each second, and the close at its end."""
    events = np.zeros(2 * len(prices), EVENT)
    for i, price in enumerate(prices):
        events[2 * i : 2 * i + 2]["ts"] = (i * SECOND, (i + 1) * SECOND)
        events[2 * i]["kind"], events[2 * i]["price"], events[2 * i]["size"] = EventKind.TRADE_BUY, price, 1.0
        events[2 * i + 1]["kind"] = EventKind.CLOSE
    return events


@pytest.mark.usefixtures("own")
def test_a_feature_that_raises_is_named_with_its_bar() -> None:
    kernel = FeatureKernel(["log_return_1", "own_raises"], [PERP])
    told = r"feature 'own_raises' failed at the bar that closes at 1970-01-01T00:00:04Z: ValueError: too dear"
    with pytest.raises(ValueError, match=told):
        kernel.run(_events([100.0, 101.0, 102.0, 104.0, 105.0, 99.0]))
    state = kernel.initial_state()
    every = _events([100.0, 101.0, 102.0, 104.0])
    usual = sys.unraisablehook
    for bar in range(3):
        assert kernel.step(state, every[2 * bar : 2 * bar + 2])[0][1] == 100.0 + bar
    with pytest.raises(ValueError, match=told):
        kernel.step(state, every[6:8])
    assert sys.unraisablehook is usual


@pytest.mark.usefixtures("own")
def test_a_feature_that_cannot_be_compiled_is_named_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"feature 'own_nonsense' cannot be compiled: .*not_there"):
        FeatureKernel(["own_nonsense"], [PERP])
