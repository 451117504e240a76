"""A run's money counted again from its folder alone, in exact fractions and by none of the engine's code.

``python tests/engine/recount.py RUN`` prints both counts side by side; tests hold them against each other.
"""

import json
import sys
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pandas as pd

FIGURES = ("gross_pnl", "fees", "funding", "net_pnl", "max_drawdown", "max_equity_error")


def recount(folder: Path) -> dict[str, float]:
    """The figures of ``FIGURES``, from fills, settlements and marks.

    ``max_equity_error`` is the largest difference between recorded equity and cash plus the worth of the
    position, over all bars, as a fraction of the starting balance.
    """
    manifest = json.loads((folder / "manifest.json").read_text())
    tables = {
        name: pd.read_parquet(folder / f"{name}.parquet") for name in ("fills", "funding", "equity", "orders")
    }
    multiplier, inverse = _exact(manifest["multiplier"]), manifest["inverse"]

    def worth(price: float) -> Fraction:
        return -multiplier / _exact(price) if inverse else multiplier * _exact(price)

    starting = _exact(manifest["starting_equity"])
    paid = position = fees = Fraction(0)
    books: list[tuple[int, Fraction, Fraction]] = [(-1, starting, position)]  # when known, cash, contracts
    for ts, cash, contracts, fee in sorted(_events(tables), key=lambda event: event[0]):
        change = cash if contracts == 0 else fee - contracts * worth(float(cash))
        paid += change if contracts == 0 else Fraction(0)
        fees += fee
        position += contracts
        books.append((ts, books[-1][1] + change, position))

    equity = tables["equity"]
    heard = equity["ts"] + _grace(folder)
    at = pd.Index([ts for ts, _, _ in books]).searchsorted(heard, side="left") - 1
    exact = [
        float(books[k][1] + (books[k][2] * worth(price) if books[k][2] else 0))
        for k, price in zip(at, equity["price"].ffill(), strict=True)
    ]
    known = equity["price"].ffill().notna() if position or len(books) > 1 else equity["price"].notna()
    error = (equity["equity"] - pd.Series(exact, equity.index))[known].abs().max() / float(starting)
    last = equity["price"].dropna().iloc[-1]
    net = books[-1][1] + position * worth(last) - starting
    return {
        "gross_pnl": float(net - fees - paid),
        "fees": float(fees),
        "funding": float(paid),
        "net_pnl": float(net),
        "max_drawdown": _drawdown(equity, float(starting)),
        "max_equity_error": float(error),
    }


def _events(tables: dict[str, pd.DataFrame]) -> Iterator[tuple[int, Fraction, Fraction, Fraction]]:
    """Time, price (of a fill) or amount (of a settlement), contracts, fee."""
    placed = dict(zip(tables["orders"]["client_order_id"], tables["orders"]["ts"], strict=True))
    for f in tables["fills"].itertuples():
        # An order placed upon a bar and filled at that very moment came after the bar was marked.
        late = placed.get(f.client_order_id, -1) >= f.ts
        yield f.ts + late, _exact(f.price), f.side * _exact(f.qty), _exact(f.fee)
    for s in tables["funding"].itertuples():
        yield s.ts, _exact(s.amount), Fraction(0), Fraction(0)


def _drawdown(equity: pd.DataFrame, starting: float) -> float:
    """The deepest fall from a close (or the start) to a later bar's least equity."""
    before = equity["equity"].cummax().shift(fill_value=starting).clip(lower=starting)
    return max(0.0, float((1 - equity["equity_low"] / before).max()))


def _exact(value: float) -> Fraction:
    """The decimal number that was written, not the binary one nearest to it."""
    return Fraction(repr(float(value)))


def _grace(folder: Path) -> int:
    text = tomllib.loads((folder / "config.toml").read_text())["bars"].get("grace", "0s")
    units = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9}
    unit = text.lstrip("0123456789.")
    return int(text.removesuffix(unit)) * units[unit]


if __name__ == "__main__":
    run = Path(sys.argv[1])
    recorded = json.loads((run / "summary.json").read_text())
    for name, value in recount(run).items():
        print(f"{name:18} {recorded.get(name, float('nan')):>22.12g} {value:>22.12g}")
