"""A catalog with a damaged file is refused by training and backtest in a sentence that names the file."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import small_market

from core.errors import BeaufortError
from engine.config import RunConfig
from engine.research.training import train
from engine.sessions.backtest import run_backtest


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _without_times(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["ts_init"]), path)


def _gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [_flip, _cut, _without_times, _gone])
@pytest.mark.parametrize(
    "kind", ["trades", "order_book_deltas", "mark_prices", "funding_rates", "crypto_perpetual"]
)
def test_no_run_begins_on_a_damaged_catalog(
    catalog: Path, trained: RunConfig, tmp_path: Path, kind: str, damage: Callable[[Path], None]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(catalog, copy)
    (path,) = (copy / "data" / kind / small_market.PERP).glob("*.parquet")
    if kind == "crypto_perpetual" and damage is not _cut:
        pytest.skip("definitions are few rows that Nautilus writes, without checksums")
    damage(path)
    where = str(copy) if damage is _gone or kind == "crypto_perpetual" else str(path)
    tree = trained.model_dump(mode="json", exclude_none=True)
    tree["data"]["catalog"] = str(copy)
    config = RunConfig.model_validate(tree)
    fresh = tree | {"train": tree["train"] | {"bundles": str(tmp_path / "bundles")}}
    if kind in ("trades", "order_book_deltas", "crypto_perpetual") and damage is not _flip:
        # What the models do not read, such as ids of trades, training need not see.
        with pytest.raises(BeaufortError) as refused:
            train(RunConfig.model_validate(fresh))
        assert where in str(refused.value)
        assert not list(tmp_path.glob("bundles/*/manifest.json"))
    if kind == "funding_rates" and damage is _gone:
        return  # a run without funding, which says so
    with pytest.raises(BeaufortError) as refused:
        run_backtest(config, "faithful", quiet=True)
    assert where in str(refused.value)
