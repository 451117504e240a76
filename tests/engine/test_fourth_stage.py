"""A stage more is a line in the table of stages and a field in the config: it is fitted, kept in bundles, run
in every mode, carried by the message of a bar and audited; no code of the pipeline knows its name."""

import dataclasses
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd
import pytest
import small_market

from actors.trader import Trader
from core.causal import Params, State
from core.kinds import Family
from core.messages import STAGES, BarState, StageSpec
from core.table import FeatureTable
from engine.bundles import load_bundle
from engine.config import RunConfig, settings_from
from engine.pipeline import Market
from engine.research.audit import audit_config
from engine.research.training import train
from engine.sessions.backtest import run_backtest

DECAY = 0.9


class DepthSettings(Family):
    """How to say on which side the book is deep."""

    verbs: ClassVar[tuple[str, ...]] = ("fit",)

    def fit(self, table: FeatureTable, seed: int) -> Any:
        raise NotImplementedError


class LeanSettings(DepthSettings):
    """The moving average of the book's imbalance."""

    kind: Literal["lean"] = "lean"
    columns: ClassVar[tuple[str, ...]] = ("book_imbalance_5",)

    def check(self, table: FeatureTable) -> None:
        assert table.column("book_imbalance_5").any()

    def fit(self, table: FeatureTable, seed: int) -> "LeanFilter":
        return LeanFilter(DECAY)


@dataclasses.dataclass(frozen=True)
class LeanFilter(Params):
    """Starts at 0."""

    kind: ClassVar[str] = "test_lean"
    inputs: ClassVar[tuple[str, ...]] = ("book_imbalance_5",)
    outputs: ClassVar[tuple[str, ...]] = ("lean",)

    decay: float

    def initial_state(self) -> State:
        return {"mean": np.zeros(1)}

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        return self.run(x.reshape(1, 1), state)[0]

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        state = self.initial_state() if state is None else state
        out = np.empty((len(xs), 1))
        for i, (x,) in enumerate(xs):
            if np.isfinite(x):
                state["mean"][0] = self.decay * state["mean"][0] + (1 - self.decay) * x
            out[i] = state["mean"]
        return out


class Depth(NamedTuple):
    """The stage's message."""

    lean: float


class WiderConfig(RunConfig):
    """A config with a table more."""

    depth: DepthSettings | None = None


def test_a_fourth_stage_is_a_line(catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wider = (*STAGES, StageSpec("depth", ("lean",), lambda row: Depth(*row), optional=True))
    for module in list(sys.modules.values()):
        if getattr(module, "STAGES", None) is STAGES:
            monkeypatch.setattr(module, "STAGES", wider)
    tree = small_market.tree(catalog, tmp_path) | {"features": ["mark_basis"], "depth": {"kind": "lean"}}
    config = settings_from(WiderConfig, "wider", tree, [])
    (folder,) = train(config)
    assert load_bundle(folder).stages["depth"] == LeanFilter(DECAY)
    heard: dict[str, list[tuple[int, float]]] = {"faithful": [], "replay": []}
    on_bar = Trader.on_bar
    for mode, bars in heard.items():

        def listen(self: Trader, bar: BarState, bars: list[tuple[int, float]] = bars) -> None:
            bars.append((bar.ts, bar.further["depth"].lean))
            on_bar(self, bar)

        monkeypatch.setattr(Trader, "on_bar", listen)
        run_backtest(config, mode)  # type: ignore[arg-type]
    monkeypatch.setattr(Trader, "on_bar", on_bar)
    traded = [{ts: said for ts, said in bars if ts > small_market.SPLIT} for bars in heard.values()]
    assert traded[0] == traded[1]
    assert len(traded[0]) == 600
    # A filter is stepped from its warm-up on.
    market = Market(config)
    table = market.features(market.data_start(small_market.SPLIT), small_market.END).table
    imbalance = pd.Series(table.column("book_imbalance_5"), table.ts)
    imbalance = imbalance[imbalance.index >= small_market.SPLIT - config.backtest.warmup].dropna()
    lean = pd.concat([pd.Series([0.0]), imbalance]).ewm(alpha=1 - DECAY, adjust=False).mean().iloc[1:]
    assert np.allclose(list(traded[0].values()), lean.loc[list(traded[0])], rtol=1e-12)
    assert "depth/lean" in audit_config(config, 1).columns
