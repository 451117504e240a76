"""Small tables for importer tests: one instrument, and what mappings and files are made of."""

import tomllib

import pyarrow as pa
import pyarrow.parquet as pq

from catalogs.imports.mapping import ImportMapping

MS, SECOND = 1_000_000, 1_000_000_000
T0 = 1_700_000_000_000  # ms
ID = "BTCUSDT-PERP.TEST"
INSTRUMENT = f"""
[[instrument]]
kind = "perpetual"
id = "{ID}"
base = "BTC"
quote = "USDT"
price_increment = "0.1"
size_increment = "0.001"
"""


def mapping(text):
    return ImportMapping.model_validate(tomllib.loads(INSTRUMENT + text))


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
