"""The language of import mappings: which columns of which files become which kind of market data."""

from pydantic import Field, model_validator

from catalogs.imports.base import TableSettings
from catalogs.instruments import InstrumentSettings
from core.plugins import Plugins
from core.settings import Settings


class ImportMapping(Settings):
    """A whole mapping file: the instruments and the tables."""

    plugins: Plugins = ()
    """Packages of your own whose kinds of tables can be named here, found where Python looks or in the
    current folder."""
    note: str = ""
    """For people: defects of the data and what is done about them."""
    instrument: list[InstrumentSettings] = Field(default=[])
    """The instruments."""
    table: list[TableSettings] = Field(min_length=1)
    """The tables."""

    @model_validator(mode="after")
    def _known_instruments(self) -> "ImportMapping":
        seen: dict[tuple[str, int], int] = {}
        for number, item in enumerate(self.instrument):
            key = item.id, item.valid_from or 0
            if key in seen:
                raise ValueError(
                    f"instrument {number} and {seen[key]} both define {item.id} from the same moment on; "
                    "give the later one a valid_from, such as valid_from = '2024-01-01T00:00:00Z'"
                )
            seen[key] = number
            if item.kind != next(other.kind for other in self.instrument if other.id == item.id):
                raise ValueError(f"{item.id} is a perpetual in one entry and spot in another; give two ids")
        known = {item.id for item in self.instrument}
        for number, table in enumerate(self.table):
            unknown = [name for name in table.targets() if name not in known]
            if unknown and table.of_instrument:
                raise ValueError(
                    f"table {number} ({table.kind}) is for {', '.join(unknown)}, which no [[instrument]] is"
                )
        return self
