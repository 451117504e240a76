"""What a fit of the HMM chooses and heeds: the start that wins, holes, stickiness, the clip of features."""

from types import SimpleNamespace

import numpy as np
import pytest

from core.table import FeatureTable
from regimes.hmm import HmmFilter, HmmSettings, Scaler

FEATURES = ("log_return_60", "realized_volatility_60")
RUN, RUNS = 40, 30
SETTINGS = HmmSettings(features=FEATURES, n_states=3, starts=3)


def market() -> tuple[FeatureTable, np.ndarray]:
    """Chop, trend and stress in turns of 40 bars, plain to see, and which is when."""
    rng = np.random.default_rng(1)
    path = np.tile(np.repeat([0, 1, 2], RUN), RUNS // 3)
    volatility = np.array([1.0, 1.2, 6.0])[path] * np.exp(0.1 * rng.normal(size=len(path)))
    drift = np.array([0.3, 4.0, 1.0])[path] * rng.choice([-1.0, 1.0], size=len(path))
    return FeatureTable(np.arange(len(path)), FEATURES, np.column_stack((drift, volatility))), path


class KnownFit:
    """In place of hmmlearn's model: what it would find is given, and how it was asked is kept."""

    tol, monitor_ = 1.0, SimpleNamespace(history=[-1.0, -1.0])

    def __init__(self, number: int, likelihood: float, weights: np.ndarray) -> None:
        self.likelihood, self.weights = likelihood, weights
        self.lengths: list[list[int]] = []
        self.means_ = np.full((3, 2), float(number))
        self.covars_ = np.tile(np.eye(2), (3, 1, 1))
        self.startprob_, self.transmat_ = np.full(3, 1 / 3), np.full((3, 3), 1 / 3)

    def fit(self, z: np.ndarray, lengths: list[int]) -> None:
        self.lengths.append(lengths)

    def score(self, z: np.ndarray, lengths: list[int]) -> float:
        self.lengths.append(lengths)
        return self.likelihood

    def predict_proba(self, z: np.ndarray, lengths: list[int]) -> np.ndarray:
        self.lengths.append(lengths)
        return self.weights


def winner(monkeypatch: pytest.MonkeyPatch, likelihoods: list[float], named: list[bool]) -> int:
    """The number of the start that the fit takes, of starts that come out like this."""
    table, path = market()
    apart, alike = np.eye(3)[path], np.full((len(path), 3), 1 / 3)  # states alike bear no three names
    fits = [
        KnownFit(number, likelihood, apart if has_names else alike)
        for number, (likelihood, has_names) in enumerate(zip(likelihoods, named, strict=True))
    ]
    monkeypatch.setattr(
        HmmSettings, "_model", lambda self, z, direction, dispersion, start, seed: fits[start]
    )
    fitted = SETTINGS.fit_posterior(table, 7)
    return int(fitted.means[0, 0])


@pytest.mark.parametrize(
    ("likelihoods", "likeliest"), [([-30, -10, -20], 1), ([-10, -30, -20], 0), ([-30, -20, -10], 2)]
)
def test_the_likeliest_start_wins_wherever_it_stands(monkeypatch, likelihoods, likeliest) -> None:
    assert winner(monkeypatch, likelihoods, [True, True, True]) == likeliest


def test_a_start_with_all_three_names_wins_over_a_likelier_one_without(monkeypatch) -> None:
    assert winner(monkeypatch, [-10, -30, -20], [False, True, True]) == 2
    assert winner(monkeypatch, [-30, -10, -20], [True, False, False]) == 0


def test_a_start_that_is_no_number_never_wins(monkeypatch) -> None:
    assert winner(monkeypatch, [float("nan"), -30, float("inf")], [True, True, True]) == 1


@pytest.mark.parametrize(("mirror", "times"), [((), 1), (("log_return_60",), 2)])
def test_runs_end_at_holes(monkeypatch, mirror, times) -> None:
    table, path = market()
    table.values[100, 0] = np.nan
    table.values[300:302, 1] = np.inf
    kept = np.delete(np.arange(len(path)), [100, 300, 301])
    fit = KnownFit(0, -1.0, np.tile(np.eye(3)[path[kept]], (times, 1)))
    monkeypatch.setattr(HmmSettings, "_model", lambda *_: fit)
    HmmSettings(features=FEATURES, n_states=3, starts=1, mirror=mirror).fit_posterior(table, 7)
    assert fit.lengths == [[100, 199, 898] * times] * 3  # to fit, to score and to tell the states


@pytest.mark.parametrize(("stickiness", "left_in"), [(0.0, 400), (0.5, 1_000), (1.0, 1_600)])
def test_stickiness_counts_as_so_many_bars_more_that_a_state_stayed(stickiness, left_in) -> None:
    table, _ = market()  # each state is left ten times in 400 of the 1 200 bars
    settings = HmmSettings(features=FEATURES, n_states=3, starts=1, stickiness=stickiness)
    staying = np.diag(settings.fit_posterior(table, 7).transition)
    np.testing.assert_allclose(1 - staying, 10 / left_in, rtol=0.15)


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_no_state_is_narrower_than_the_least_variance(covariance) -> None:
    table, path = market()
    table.values[path == 0, 0] = 0.01  # a quiet state stands still in the direction
    settings = HmmSettings(features=FEATURES, n_states=3, starts=1, covariance=covariance)
    for least in (1e-3, 1e-2):
        fitted = settings.model_copy(update={"min_variance": least}).fit_posterior(table, 7)
        variances = np.diagonal(fitted.covariances, axis1=1, axis2=2)[:, 0]
        assert variances[fitted.names.index("chop")] == pytest.approx(least, rel=0.05)
        assert sorted(variances)[1] > 2 * least


def test_features_that_move_as_one_in_a_state_leave_it_the_least_variance() -> None:
    table, path = market()
    table.values[path == 0, 0] = table.values[path == 0, 1]
    fitted = HmmSettings(features=FEATURES, n_states=3, starts=1, min_variance=1e-2).fit_posterior(table, 7)
    chop = np.linalg.eigvalsh(fitted.covariances[fitted.names.index("chop")])
    assert chop[0] == pytest.approx(1e-2, rel=1e-3)


def test_the_model_never_sees_a_feature_beyond_the_clip(monkeypatch) -> None:
    table, path = market()
    table.values[5] = 1e9, 1e9
    seen = []

    class Watching(KnownFit):
        def fit(self, z: np.ndarray, lengths: list[int]) -> None:
            seen.append(z)

    fit = Watching(0, -1.0, np.eye(3)[path])
    monkeypatch.setattr(HmmSettings, "_model", lambda *_: fit)
    fitted = HmmSettings(features=FEATURES, n_states=3, starts=1, clip=2.5).fit_posterior(table, 7)
    assert np.abs(seen[0]).max() == 2.5
    assert seen[0][5].tolist() == [2.5, 2.5]
    assert fitted.scaler is not None
    np.testing.assert_array_equal(fitted.scaler(np.array([[-1e9, 1e9]])), [[-2.5, 2.5]])


def test_the_filter_takes_what_lies_beyond_the_clip_as_lying_there() -> None:
    f = HmmFilter(
        inputs=FEATURES,
        names=("trend", "chop", "stress"),
        start=np.full(3, 1 / 3),
        transition=np.full((3, 3), 1 / 3),
        means=np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]),
        covariances=np.tile(np.eye(2), (3, 1, 1)),
        scaler=Scaler(np.zeros(2), np.array([10.0, 0.0]), np.array([4.0, 1.0]), clip=2.5),
    )
    # 10 + 2.5 * 4 = 20 and 10 - 2.5 * 4 = 0
    beyond, there = np.array([[1e9, 7.0], [-50.0, -3.0]]), np.array([[20.0, 2.5], [0.0, -2.5]])
    np.testing.assert_array_equal(f.run(beyond), f.run(there))
    assert not np.array_equal(f.run(there), f.run(there * 0.9))
