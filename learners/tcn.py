"""A causal temporal convolutional network over a window of ``2 ** layers`` bars."""

from typing import Any, Literal

from pydantic import Field

from core.settings import Count
from learners.networks import NetworkSettings

_LAYERS = range(2, 11)


class TcnSettings(NetworkSettings):
    """Temporal convolutional network (Bai, Kolter and Koltun 2018) of dilated causal convolutions."""

    kind: Literal["tcn"] = "tcn"
    layers: Count | None = Field(default=None, ge=2, le=14)
    """Dilated convolutions of width two: the network sees the last ``2 ** layers`` bars; without a number, as
    many as leave room to validate on the training span, ten at most."""
    channels: Count = Field(default=8, ge=1, le=256)
    """Width of each layer."""

    def lookback(self, room: float) -> int:
        return 2 ** (self.layers or max((n for n in _LAYERS if 2**n <= room), default=_LAYERS[0]))

    @property
    def width(self) -> int:
        return self.channels

    def body(self, torch: Any, channels: int, window: int) -> Any:
        """A residual stack, ``y[t] = x[t] + relu(conv(x[t - d], x[t]))`` with dilation d doubling a layer; of
        it only what the last bar depends on is computed, which is every second position of the layer below.
        """
        width, layers = self.width, window.bit_length() - 1

        class Tcn(torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.enter = torch.nn.Conv1d(channels, width, 1)
                self.convolutions = torch.nn.ModuleList(
                    torch.nn.Conv1d(width, width, 2, stride=2) for _ in range(layers)
                )

            def forward(self, rows: Any) -> Any:
                y = self.enter(rows.transpose(1, 2))
                for convolution in self.convolutions:
                    y = y[:, :, 1::2] + torch.relu(convolution(y))
                return y[:, :, 0]

        return Tcn()
