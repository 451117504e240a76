"""A long short-term memory network over a fixed window."""

from typing import Any, Literal

from pydantic import Field

from core.settings import Bars, Count
from learners.networks import NetworkSettings


class LstmSettings(NetworkSettings):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) over a fixed window, from zero state at every
    bar.
    """

    kind: Literal["lstm"] = "lstm"
    window: Bars = Field(default=60, ge=1, le=2_000)
    """How far back the network sees."""
    hidden: Count = Field(default=32, ge=1, le=512)
    """Size of its memory."""

    def lookback(self, room: float) -> int:
        return self.window

    @property
    def width(self) -> int:
        return self.hidden

    def body(self, torch: Any, channels: int, window: int) -> Any:
        class Lstm(torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.lstm = torch.nn.LSTM(channels, width, batch_first=True)

            def forward(self, rows: Any) -> Any:
                memory, _ = self.lstm(rows)
                return memory[:, -1]

        width = self.width
        return Lstm()
