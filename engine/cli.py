"""The command line: ``beaufort <command>``. Thin: parses, calls, prints; every command's work is a
function elsewhere."""

import argparse
import difflib
import importlib.metadata
import io
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from core.errors import BeaufortError

_Handler = Callable[[argparse.Namespace], int | None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 1 found problems, 2 a mistake to mend, 130
    interrupted)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what cannot be shown fails nothing; logs grow by the line
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could come next
        import argcomplete

        argcomplete.autocomplete(parser)
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments) or 0
    except BeaufortError as error:
        print(f"beaufort: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("beaufort: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"beaufort: {where}{error.strerror or error}", file=sys.stderr)
        return 2


class _Parser(argparse.ArgumentParser):
    """Says what a mistyped command or option was near to."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, f"beaufort: {message}\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            known = sorted(getattr(parsed, "options", ()))
            near = difflib.get_close_matches(unknown[0].split("=")[0], known, n=1)
            self.error(f"unknown argument {unknown[0]!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return parsed

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            near = difflib.get_close_matches(str(value), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(known)}"
            raise argparse.ArgumentError(action, f"{value!r} is not known; {hint}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="beaufort", description="Regime-gated trading engine for crypto perpetual futures.")
    parser.add_argument(
        "--version", action="version", version=f"beaufort {importlib.metadata.version('beaufort')}"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)

    config = commands.add_parser("config", help="show or describe run configs")
    actions = config.add_subparsers(metavar="ACTION", required=True, parser_class=_Parser)
    _command(actions, "show", _config_show, "print the resolved config", config=True)
    p = _command(actions, "schema", _config_schema, "print the JSON schema of run configs, for editors")
    which = p.add_mutually_exclusive_group()
    which.add_argument("--mapping", action="store_true", help="of import mappings instead")
    which.add_argument("--synth", action="store_true", help="of synthetic market settings instead")
    _plugins_of(p)
    p = _command(commands, "completion", _completion, "print what makes a shell complete commands and files")
    p.add_argument("shell", choices=("bash", "zsh", "fish"))
    p = _command(commands, "kinds", _kinds, "list the kinds of bars, models, strategies and tables")
    _plugins_of(p)

    data = commands.add_parser("data", help="import, synthesize and check catalogs")
    actions = data.add_subparsers(metavar="ACTION", required=True, parser_class=_Parser)
    p = _command(actions, "import", _data_import, "read tables into a catalog by a TOML mapping")
    p.add_argument("mapping", type=Path, help="mapping file, such as configs/imports/standx.toml")
    p.add_argument("--out", type=Path, required=True, help="catalog to write")
    p.add_argument(
        "--root", type=Path, help="folder the mapping's paths are relative to (default: $BEAUFORT_REAL_DATA)"
    )
    p.add_argument("--json", action="store_true", help="print what was done as one JSON object")
    p = _command(actions, "synth", _data_synth, "make a synthetic market with known truth")
    p.add_argument("--out", type=Path, required=True, help="catalog to write")
    p.add_argument("--settings", type=Path, help="TOML file of synthetic market settings")
    p.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    p = _command(
        actions, "check", _data_check, "look for gaps, crossed books, one-sided trades and other defects"
    )
    p.add_argument("catalog", type=Path)
    p.add_argument("--instrument", help="only this instrument id")
    p.add_argument("--json", action="store_true")

    p = _command(commands, "init", _init, "write a first config for a catalog")
    p.add_argument("catalog", type=Path)
    p.add_argument("--trade", metavar="INSTRUMENT", help="what to trade (default: what there is most of)")
    p.add_argument("--out", type=Path, help="TOML file to write (default: print it)")
    p = _command(commands, "features", _features, "write the features the engine computes, or list them")
    p.add_argument("config", type=Path, nargs="?", help="run config (TOML)")
    p.add_argument("--list", action="store_true", help="list every feature: unit, window, needs, definition")
    p.add_argument("--out", type=Path, help="Parquet file to write")
    _overrides(p)
    _command(commands, "train", _train, "fit the models and write bundles", config=True, as_json=True)
    p = _command(commands, "backtest", _backtest, "trade a span of recorded data", config=True, as_json=True)
    p.add_argument("--mode", choices=("faithful", "replay"), default="faithful", help="default: faithful")
    p.add_argument("--no-report", action="store_true", help="leave out report.html")
    p = _command(
        commands, "evaluate", _evaluate, "judge the models apart from money", config=True, as_json=True
    )
    p.add_argument(
        "--out", type=Path, help="HTML page to write (default: evaluation-<name>.html in the runs folder)"
    )
    p.add_argument(
        "--seeds",
        type=int,
        default=0,
        metavar="N",
        help="also judge the regime detector on N more synthetic markets",
    )
    p = _command(commands, "report", _report, "make a run folder's report anew", as_json=True)
    p.add_argument("run_folder", type=Path, metavar="RUN", help="run folder, such as one that backtest named")
    audit = commands.add_parser("audit", help="see that nothing looks ahead")
    actions = audit.add_subparsers(metavar="ACTION", required=True, parser_class=_Parser)
    p = _command(
        actions, "lookahead", _audit, "cut the data at random times and compare", config=True, as_json=True
    )
    p.add_argument("--cuts", type=int, default=5, help="number of random cuts (default: 5)")
    p = _command(commands, "live", _live, "trade live data with simulated execution", config=True)
    p.add_argument("--seconds", type=float, help="stop by itself after this long")
    return parser


def _command(
    actions: Any, name: str, handler: _Handler, text: str, *, config: bool = False, as_json: bool = False
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text)
    if config:
        parser.add_argument("config", type=Path, help="run config (TOML)")
        _overrides(parser)
    if as_json:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=handler, options=parser._option_string_actions)
    return parser


def _overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="path.to.key=value",
        help="override a key",
    )


def _plugins_of(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", type=Path, nargs="?", help="config or mapping (TOML) whose plugins are known too"
    )


def _import_plugins(path: Path | None) -> None:
    """Make the parts known that the plugins of a file bring."""
    from core.plugins import PluginSettings
    from engine.config import load_settings

    if path is not None:
        load_settings(PluginSettings, path)


def _load(arguments: argparse.Namespace) -> Any:
    from engine.config import load_config

    return load_config(arguments.config, arguments.overrides)


def _output(path: Path) -> Path:
    """``path``, where a file can be written: found out before the work, not after."""
    if path.is_dir():
        raise BeaufortError(f"--out {path}: is a folder; name a file in it")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise BeaufortError(f"--out {path}: may not be written")
    return path


def _say(text: str) -> None:
    from engine.progress import console

    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, allow_nan=False))


def _config_show(arguments: argparse.Namespace) -> None:
    from engine.config import to_toml

    print(to_toml(_load(arguments)), end="")


def _config_schema(arguments: argparse.Namespace) -> None:
    from catalogs.imports.mapping import ImportMapping
    from catalogs.synthetic.settings import SynthSettings
    from engine.config import RunConfig
    from engine.config.schema import schema

    _import_plugins(arguments.config)
    model = ImportMapping if arguments.mapping else SynthSettings if arguments.synth else RunConfig
    print(json.dumps(schema(model), indent=1))


def _completion(arguments: argparse.Namespace) -> None:
    import argcomplete

    print(argcomplete.shellcode(["beaufort"], shell=arguments.shell))


def _kinds(arguments: argparse.Namespace) -> None:
    from engine.config.schema import list_kinds

    _import_plugins(arguments.config)
    print(list_kinds())


def _data_import(arguments: argparse.Namespace) -> int:
    from catalogs.imports.importing import ImportMapping, run_import
    from engine.config import load_settings
    from engine.progress import meter, wide

    mapping = load_settings(ImportMapping, arguments.mapping)
    root = arguments.root or Path(os.environ.get("BEAUFORT_REAL_DATA", "../shared/data"))
    if not root.is_dir():
        raise BeaufortError(f"{root}: no such folder; give --root or set BEAUFORT_REAL_DATA")
    with meter(f"import {arguments.mapping.stem}") as running:
        try:
            summary = run_import(
                mapping,
                root,
                arguments.out,
                lambda _what, done, total: running.update(done / max(total, 1), done),
            )
        except (ValueError, KeyError, OSError) as error:
            raise BeaufortError(_text(error)) from error
    if arguments.json:
        _print_json(summary.to_dict())
    else:
        wide(stderr=True).print(summary)
    return 1 if summary.empty else 0


def _data_synth(arguments: argparse.Namespace) -> None:
    from catalogs.synthetic.writing import SynthSettings, synthesize
    from engine.config import load_settings, settings_from
    from engine.progress import meter, wide

    if arguments.settings:
        settings = load_settings(SynthSettings, arguments.settings, arguments.overrides)
    else:
        settings = settings_from(SynthSettings, "synth", {}, arguments.overrides)
    with meter("synthesize") as running:
        try:
            summary = synthesize(settings, arguments.out, running.update)
        except (ValueError, OSError) as error:
            raise BeaufortError(_text(error)) from error
    wide(stderr=True).print(summary.render())


def _data_check(arguments: argparse.Namespace) -> int:
    from catalogs.checks.check import check_catalog
    from engine.progress import meter, wide

    with meter("check"):
        try:
            report = check_catalog(arguments.catalog, arguments.instrument)
        except (FileNotFoundError, KeyError, ValueError) as error:
            raise BeaufortError(_text(error)) from error
    if not report.feeds:
        raise BeaufortError(f"{arguments.catalog}: nothing is recorded in it")
    if arguments.json:
        _print_json(report.to_dict())
    else:
        wide().print(report)
    return 1 if report.findings else 0


def _init(arguments: argparse.Namespace) -> None:
    from engine.config.starter import starter

    if arguments.out is not None and _output(arguments.out).exists():
        raise BeaufortError(f"--out {arguments.out}: is there already, and is not overwritten")
    text = starter(arguments.catalog, arguments.trade)
    if arguments.out is None:
        print(text, end="")
    else:
        arguments.out.write_text(text)
        _say(f"{arguments.out} written; next: beaufort train {arguments.out}")


def _features(arguments: argparse.Namespace) -> None:
    from engine.pipeline import Market
    from engine.progress import meter

    if arguments.list:
        from engine.config.schema import list_features

        _import_plugins(arguments.config)
        print(list_features())
        return
    if arguments.config is None or arguments.out is None:
        raise BeaufortError("features: give a config and --out FILE, or --list")
    config = _load(arguments)
    out = _output(arguments.out)
    market = Market(config)
    start, end = config.backtest.start, config.backtest.end
    market.require_data("backtest", start, end)
    with meter("features") as running:
        first = market.data_start(start)
        series = market.features(first, end, lambda done, total: running.update(done / total)).between(
            start + 1, end + 1
        )
    metadata = {"schema_hash": market.kernel.schema_hash, "schema": json.dumps(market.kernel.schema)}
    series.table.save(out, metadata)
    _say(f"{out}: {len(series.table):,} bars x {len(series.table.names)} features")


def _train(arguments: argparse.Namespace) -> None:
    from engine.research.training import train

    config = _load(arguments)
    folders = train(config, _say)
    if arguments.json:
        _print_json({"bundles": [str(folder) for folder in folders]})


def _backtest(arguments: argparse.Namespace) -> int:
    from engine.reports import all_refused, print_summary, summary, write_report
    from engine.sessions.backtest import run_backtest

    folder, complete = run_backtest(_load(arguments), arguments.mode)
    result = summary(folder)
    if not arguments.no_report:
        write_report(folder)
    if arguments.json:
        _print_json(result)
        for warning in result["warnings"]:
            _say(f"warning: {warning}")
    else:
        print_summary(result)
    _say(f"{folder}" + ("" if complete else " (interrupted: a partial run)"))
    if refused := all_refused(result):
        print(f"beaufort: {refused}", file=sys.stderr)
        return 1
    return 0 if complete else 130


def _report(arguments: argparse.Namespace) -> None:
    from engine.reports import print_summary, summary, write_report

    result = summary(arguments.run_folder)
    path = write_report(arguments.run_folder)
    if arguments.json:
        _print_json(result)
    else:
        print_summary(result)
    _say(str(path))


def _evaluate(arguments: argparse.Namespace) -> None:
    from engine.reports import print_evaluation, write_evaluation
    from engine.research.evaluation import evaluate

    config = _load(arguments)
    if arguments.seeds < 0:
        raise BeaufortError(f"--seeds {arguments.seeds}: write how many more markets to judge on, or 0")
    out = _output(arguments.out or config.backtest.runs / f"evaluation-{config.name}.html")
    results = evaluate(config, _say, seeds=arguments.seeds)
    write_evaluation(results, out)
    if arguments.json:
        from engine.reports import jsonable

        _print_json(jsonable(results))
    else:
        print_evaluation(results)
    _say(str(out))


def _audit(arguments: argparse.Namespace) -> int:
    from engine.research.audit import audit_config, print_audit

    result = audit_config(_load(arguments), arguments.cuts, _say)
    if arguments.json:
        _print_json(result.to_dict())
    else:
        print_audit(result)
    return 0 if result.clean else 1


def _live(arguments: argparse.Namespace) -> int:
    from engine.sessions.live import run_live

    seconds = arguments.seconds
    if seconds is not None and not 0 < seconds < math.inf:
        raise BeaufortError(
            f"--seconds {seconds:g}: write a positive number, or leave it out to run until Ctrl-C"
        )
    return run_live(_load(arguments), seconds)


def _text(error: Exception) -> str:
    """A KeyError's text without the quotes Python puts around it."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


if __name__ == "__main__":
    sys.exit(main())
