"""The command line: exit codes, one line for people instead of a traceback, JSON for programs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_market
from fake_run import fake_run

from engine.cli import main
from engine.config import RunConfig, to_toml


@pytest.fixture(scope="module")
def file(trained: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A config file of the small market, trained, that runs into a folder of its own."""
    folder = tmp_path_factory.mktemp("cli")
    runs = trained.backtest.model_copy(update={"runs": folder / "runs"})
    path = folder / "small.toml"
    path.write_text(to_toml(trained.model_copy(update={"backtest": runs})))
    return str(path)


def _run(*arguments: str) -> int:
    try:
        return main(arguments)
    except SystemExit as left:  # argparse
        return int(left.code or 0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["trian", "x.toml"], "'trian' is not known; did you mean 'train'?"),
        (["config", "shw", "x.toml"], "'shw' is not known; did you mean 'show'?"),
        (["audit", "lokahead", "x.toml"], "did you mean 'lookahead'?"),
        (["train", "x.toml", "--jsn"], "unknown argument '--jsn'; did you mean '--json'?"),
        (["backtest", "x.toml", "--mdoe", "replay"], "unknown argument '--mdoe'; did you mean '--mode'?"),
        (["backtest", "x.toml", "--mode", "faithfull"], "did you mean 'faithful'?"),
        (["evaluate", "x.toml", "--seeds", "many"], "invalid int value: 'many'"),
        ([], "required: COMMAND"),
        (["config", "show"], "required: config"),
    ],
)
def test_mistyped_commands(capsys: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    assert _run(*arguments) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["data.catalog=/nowhere"], "/nowhere: no catalog here"),
        (["train.bundles=/nowhere"], "/nowhere: no bundles here; run 'beaufort train'"),
        (
            ["data.streams.perp.instrument=FOO.SIM"],
            "no instrument FOO.SIM; it has BTCUSDT-PERP.SIM, BTCUSDT.SIM",
        ),
        (['features=["log_retrun_10"]'], "no feature 'log_retrun_10'; nearest: log_return_{w}"),
        (['features=["spread@spto"]'], "no stream or series 'spto'; there are perp"),
        (['features=["basis"]'], "feature 'basis' compares two streams"),
        (['features=["index_basis"]'], "needs 'index' of 'perp'"),
        (["data.streams.perp.book=quotes"], "needs 'depth' of 'perp'"),
        (["data.series.oi=open_interest/FOO.SIM"], "no series of open_interest/FOO.SIM"),
        (
            ["data.streams.perp.bars=BTCUSDT-PERP.SIM-1-MINUTE-LAST-EXTERNAL"],
            "no bars of BTCUSDT-PERP.SIM-1-MIN",
        ),
        (["bars.interval=2s"], "trained with other settings: bars.interval was '1s', now '2s'"),
        (["regime.fast=11"], "trained with other settings: regime.fast was 10, now 11"),
        (["backtest.end=2026-01-05"], "backtest: end 2026-01-05T00:00:00Z is not after start"),
        (
            ["backtest.start=2026-01-05T00:05:00Z", "backtest.end=2026-01-05T00:10:00Z"],
            "a model never trades the time it was trained on",
        ),
        (
            ["backtest.start=2026-02-05T00:05:00Z", "backtest.end=2026-02-05T00:10:00Z"],
            "2026-02-05T00:05:00Z .. 2026-02-05T00:10:00Z: nothing recorded of BTCUSDT-PERP.SIM in it",
        ),
        (
            ["backtest.start=2026-01-05T00:25:00.1Z", "backtest.end=2026-01-05T00:25:00.9Z"],
            "they are 1s long and close at multiples of that; trade a longer span",
        ),
        (["venue.starting_balance=1000 USD"], "is settled in USDT; give an amount of it"),
        (["backtest.start=never", "nmae=x"], "2 problems"),
    ],
)
@pytest.mark.parametrize("command", [("backtest",), ("audit", "lookahead")])
def test_what_cannot_run_says_why(
    file: str, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], overrides: list[str], told: str
) -> None:
    sets = [part for override in overrides for part in ("--set", override)]
    assert _run(*command, file, *sets) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["backtest", "{tmp}/absent.toml"], "absent.toml: no such file"),
        (["backtest", "{tmp}"], "cannot be read"),
        (
            ["train", "{file}", "--set", "train.end=2026-01-04"],
            "train: end 2026-01-04T00:00:00Z is not after start",
        ),
        (
            ["train", "{file}", "--set", "train.end=2026-01-05T00:00:05Z", "--set", "train.bundles={tmp}/b"],
            "none of its 5 bars has every feature known; never known: log_return_10",
        ),
        (
            ["train", "{file}", "--set", "train.end=2026-01-05T00:02:00Z", "--set", "train.bundles={tmp}/b"],
            "training failed: volatility",
        ),
        (["audit", "lookahead", "{file}", "--cuts", "0"], "--cuts 0: at least one cut is needed"),
        (["features", "{file}", "--out", "/proc/nowhere/x.parquet"], "/proc/nowhere: "),
        (["features", "{file}", "--out", "{tmp}"], "is a folder; name a file in it"),
        (["evaluate", "{file}", "--out", "{tmp}"], "is a folder; name a file in it"),
        (
            ["train", "{file}", "--set", "train.bundles={file}"],
            "small.toml' cannot be a folder: it is a file",
        ),
        (["backtest", "{file}", "--set", "backtest.runs={file}"], "backtest.runs = '"),
        (["data", "check", "{tmp}/nowhere"], "no catalog here"),
        (["data", "check", "{tmp}/bare"], "nothing is recorded in it"),
        (
            ["data", "synth", "--out", "{tmp}/m", "--set", "levles=3"],
            "levles: unknown key; did you mean 'levels'?",
        ),
        (["data", "import", "{tmp}/absent.toml", "--out", "{tmp}/c", "--root", "{tmp}"], "no such file"),
        (["data", "import", "{file}", "--out", "{tmp}/c", "--root", "{tmp}/nowhere"], "unknown key"),
        (["evaluate", "{file}", "--seeds", "-3"], "--seeds -3: write how many"),
        (["live", "{file}", "--seconds", "-5"], "--seconds -5: write a positive number"),
        (["live", "{file}", "--seconds", "nan"], "--seconds nan: write a positive number"),
        (["evaluate", "{file}", "--seeds", "1"], "--seeds judges the hmm detector"),
    ],
)
def test_bad_input_of_every_command(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    (tmp_path / "bare" / "data").mkdir(parents=True)
    assert _run(*(a.format(tmp=tmp_path, file=file) for a in arguments)) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("work", "arguments"),
    [
        ("engine.pipeline.Market.features", ["features", "{file}", "--out", "{tmp}"]),
        ("engine.research.evaluation.evaluate", ["evaluate", "{file}", "--out", "{tmp}"]),
        ("engine.research.training.fit", ["train", "{file}", "--set", "train.bundles={file}"]),
    ],
)
def test_an_output_that_cannot_be_written_is_found_before_the_work(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str, arguments: list[str]
) -> None:
    def works(*_args: object, **_kwargs: object) -> None:
        pytest.fail("the work was begun")

    monkeypatch.setattr(work, works)
    out = tmp_path / "out"
    out.mkdir()
    assert _run(*(a.format(tmp=out, file=file) for a in arguments)) == 2
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("command", ["backtest", "train", "evaluate"])
def test_a_broken_data_file_is_named(
    trained: RunConfig, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    catalog = tmp_path / "market"
    shutil.copytree(trained.data.catalog, catalog)
    (trades,) = (catalog / "data/trades/BTCUSDT-PERP.SIM").iterdir()
    trades.write_bytes(trades.read_bytes()[:1000])
    sets = ["--set", f"data.catalog={catalog}"]
    sets += ["--set", f"train.bundles={tmp_path / 'bundles'}"] if command == "train" else []
    assert _run(command, file, *sets) == 2
    said = capsys.readouterr().err
    assert str(trades) in said
    assert "remove it and import its data again" in said
    assert "Traceback" not in said


def test_schema_and_show(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("config", "schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "RunConfig"
    assert _run("config", "show", file, "--set", "seed=3") == 0
    assert "seed = 3" in capsys.readouterr().out


def test_features_are_written(file: str, tmp_path: Path) -> None:
    out = tmp_path / "features.parquet"
    assert _run("features", file, "--out", str(out)) == 0
    table = pq.read_table(out)
    assert len(table) == 600
    assert {"ts", "book_imbalance_5", "log_return_1"} <= set(table.column_names)
    assert b"schema_hash" in table.schema.metadata


def test_train_and_backtest_say_what_they_did_in_json(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("train", file, "--json") == 0
    captured = capsys.readouterr()
    (bundle,) = json.loads(captured.out)["bundles"]
    assert Path(bundle).name.startswith("2026-01-05T002000Z-")
    assert "up to date" in captured.err
    assert _run("backtest", file, "--json", "--mode", "replay") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["decisions"] == 1200
    assert told["complete"] is True


def test_a_report_is_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_run(tmp_path / "run", bars=200)
    assert _run("report", str(tmp_path / "run"), "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (tmp_path / "run" / "report.html").stat().st_size > 50_000
    assert _run("report", str(tmp_path)) == 2
    assert "not a run folder: it has no manifest.json" in capsys.readouterr().err


def test_an_audit_with_a_leak_exits_with_1(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import engine.research.audit

    honest = engine.research.audit.run_stages

    def peeking(models, table):  # type: ignore[no-untyped-def]
        tables = honest(models, table)
        tables["volatility"].values[:, 0] -= tables["volatility"].values[-1, 0]
        return tables

    monkeypatch.setattr(engine.research.audit, "run_stages", peeking)
    assert _run("audit", "lookahead", file, "--cuts", "1") == 1
    assert "volatility/volatility: at 1 of 1 cuts" in capsys.readouterr().out
    monkeypatch.undo()
    assert _run("audit", "lookahead", file, "--cuts", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["clean"] is True


def test_a_backtest_never_imports_what_only_training_needs(file: str) -> None:
    script = (
        "import sys; from engine.cli import main; "
        f"code = main(['backtest', {file!r}, '--json', '--no-report']); "
        "print(code, sorted({'torch', 'onnx', 'sklearn', 'hmmlearn', 'arch'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.splitlines()[-1:] == ["0 []"], done.stderr


def test_a_reader_that_goes_away_is_no_error(file: str) -> None:
    shell = f"{sys.executable} -m engine.cli config schema | head -c 10"
    done = subprocess.run(shell, shell=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_small_market_is_what_the_tests_think(trained: RunConfig) -> None:
    assert (trained.backtest.start, trained.backtest.end) == (small_market.SPLIT, small_market.END)


def _completed(line: str) -> list[str]:
    """What a shell would offer at the end of ``line``: argcomplete answers on file descriptor 8."""
    environment = os.environ | {
        "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line)),
    }  # fmt: skip
    shell = f"exec {sys.executable} -m engine.cli 8>&1 9>/dev/null"
    done = subprocess.run(
        shell, shell=True, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2]
    )
    return [word.strip() for word in done.stdout.split("\n")]


def test_shells_complete_commands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert _completed("beaufort ba") == ["backtest"]
    assert set(_completed("beaufort data ")) >= {"import", "synth", "check"}
    assert set(_completed("beaufort backtest x.toml --mode ")) == {"faithful", "replay"}
    for shell, sign in (("bash", "complete "), ("zsh", "#compdef beaufort"), ("fish", "--command beaufort")):
        assert _run("completion", shell) == 0
        assert sign in capsys.readouterr().out


def test_what_a_terminal_cannot_show_is_written_otherwise(file: str, tmp_path: Path) -> None:
    environment = os.environ | {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    for arguments in (
        ["config", "show", file, "--set", "data.catalog=m\u00e4rkte"],
        ["train", "\u96ea.toml"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "engine.cli", *arguments],
            capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert ("m\\xe4rkte" in done.stdout) or "no such file" in done.stderr


def test_no_instrument_id_is_broken_at_eighty_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "AVERYLONGNAME-USDT-PERPETUAL-SWAP.SOMEWHERE"
    (tmp_path / "market.toml").write_text(
        f'duration = "1m"\ninstrument = {{ kind = "perpetual", id = "{name}", base = "BTC", quote = "USDT", '
        'price_increment = "0.1", size_increment = "0.001" }\n'
    )
    assert (
        _run("data", "synth", "--out", str(tmp_path / "m"), "--settings", str(tmp_path / "market.toml")) == 0
    )
    assert name in capsys.readouterr().err
    _run("data", "check", str(tmp_path / "m"))
    assert name in capsys.readouterr().out


@pytest.mark.parametrize(("refused", "code"), [(0.5, 0), (1.0, 1)])
def test_a_run_of_refused_orders_alone_says_so_and_exits_with_1(
    file: str,
    refused: float,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    fake_run(folder, bars=500)
    table = pq.read_table(folder / "orders.parquet").to_pydict()
    count = len(table["status"])
    many = round(refused * count)
    table["status"] = ["denied"] * many + ["filled"] * (count - many)
    texts = [f"QUANTITY_BELOW_MINIMUM: effective=0.{i}, min=1" for i in range(many)]
    table["reason"] = texts + [""] * (count - many)
    pq.write_table(pa.table(table), folder / "orders.parquet")
    monkeypatch.setattr("engine.sessions.backtest.run_backtest", lambda *_args, **_kwargs: (folder, True))
    assert main(["backtest", file, "--json", "--no-report"]) == code
    said = capsys.readouterr()
    figures = json.loads(said.out.splitlines()[0])
    assert figures["orders_refused"] == {"QUANTITY_BELOW_MINIMUM": many}
    sentence = f"every order was refused, all {many:,}: {many:,} x QUANTITY_BELOW_MINIMUM"
    assert (sentence in said.err) == (code == 1)
