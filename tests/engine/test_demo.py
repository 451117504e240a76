"""``make demo`` runs the commands a user would type, in order, and stops at the first that fails."""

from pathlib import Path

import pytest

import engine.demo
from engine.cli import _parser
from engine.config import load_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of the demo, recorded instead of run."""
    commands: list[list[str]] = []

    def record(arguments: list[str]) -> int:
        commands.append(arguments)
        return 0

    monkeypatch.setattr(engine.demo, "main", record)
    return commands


def test_every_step_is_a_command_the_parser_knows(typed: list[list[str]]) -> None:
    assert engine.demo.demo() == 0
    assert [command[0] for command in typed] == ["data", "train", "backtest", "backtest", "evaluate"]
    for command in typed:
        _parser().parse_args(command)  # exits where it knows a command or an option not


def test_a_failing_step_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def fails_in_train(arguments: list[str]) -> int:
        ran.append(arguments[0])
        return 2 if arguments[0] == "train" else 0

    monkeypatch.setattr(engine.demo, "main", fails_in_train)
    assert engine.demo.demo() == 2
    assert ran == ["data", "train"]


def test_the_demo_trades_what_it_synthesized_and_did_not_train_on() -> None:
    config = load_config(ROOT / engine.demo.CONFIG)
    assert config.data.catalog == engine.demo.CATALOG
    assert config.backtest.start >= config.train.end
