"""What a callback raises is kept, and ends the run once."""

from types import SimpleNamespace

from actors.guard import RunGuard


def test_a_failing_callback_is_kept_and_asks_for_shutdown_once() -> None:
    asked: list[str] = []
    component = SimpleNamespace(shutdown_system=asked.append)
    guard = RunGuard()
    heard: list[float] = []
    inverse = guard.watch(component, lambda x: heard.append(1 / x))
    for x in (2, 0, 4, 0):
        inverse(x)
    assert heard == [0.5, 0.25]
    assert guard.failures == ["ZeroDivisionError: division by zero"] * 2
    assert all(trace.startswith("Traceback") and "heard.append(1 / x)" in trace for trace in guard.traces)
    assert asked == ["ZeroDivisionError: division by zero"]
