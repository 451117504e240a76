"""Linear learners of the last bar's features, fitted by scikit-learn, served without it: the ones to beat."""

import warnings
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from core.causal import CausalFilter
from core.fitting import OnEpoch, warn_fit
from core.settings import Number, unit
from learners.base import LearnerSettings, Quantity, Task

_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_ITERATIONS = 1_000


class LinearSettings(LearnerSettings):
    """A generalised linear model of one quantity with a ridge penalty."""

    remembers: ClassVar[bool] = False

    penalty: Annotated[Number, unit("mean loss a squared coefficient, halved")] | None = Field(
        default=None, gt=0, le=1e9
    )
    """Weight of the squared coefficients; absent: that with the lowest loss on the validation slice."""

    def _chosen(self, fitted: Callable[[float], tuple[Any, float]]) -> Any:
        """Of the estimators and validation losses that ``fitted`` gives for each penalty, the best."""
        from sklearn.exceptions import ConvergenceWarning

        found = []
        for penalty in _PENALTIES if self.penalty is None else (self.penalty,):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                estimator, loss = fitted(penalty)
            why = [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)]
            found.append((loss, estimator, why))
        _, best, why = min(found, key=lambda one: one[0])
        if why:
            reason = why[0].partition("\n")[0].rstrip(":. ")
            warn_fit(f"the optimiser did not converge ({reason}); it is taken where it stopped")
        return best


class LogisticSettings(LinearSettings):
    """Multinomial logistic regression with a ridge penalty."""

    quantities: ClassVar[frozenset[Quantity]] = frozenset({"classes"})

    kind: Literal["logistic"] = "logistic"

    def learn(self, task: Task, seed: int, on_epoch: OnEpoch | None = None) -> CausalFilter:
        """Maximum penalised likelihood; nothing in it is random, and it has no epochs."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import log_loss

        rows, labels = task.scaled(), task.targets
        classes = np.arange(len(task.outputs) + 1)
        # A class that the slice has none of enters as one bar at the mean would.
        absent = np.setdiff1d(classes, labels[task.train])
        x = np.concatenate((rows[task.train], np.zeros((len(absent), rows.shape[1]))))
        y = np.concatenate((labels[task.train], absent))

        def fitted(penalty: float) -> tuple[Any, float]:
            model = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-6, max_iter=_ITERATIONS).fit(x, y)
            forecast = model.predict_proba(rows[task.validation])
            return model, float(log_loss(labels[task.validation], forecast, labels=classes))

        model = self._chosen(fitted)
        scores = model.decision_function(rows[task.calibration])
        return task.served_linear(*task.calibrated(model.coef_, model.intercept_, scores))


class LogLinearSettings(LinearSettings):
    """Regression of log variance on features, by QLIKE (the deviance of a gamma regression) with a ridge
    penalty.
    """

    quantities: ClassVar[frozenset[Quantity]] = frozenset({"variance"})

    kind: Literal["linear"] = "linear"

    def learn(self, task: Task, seed: int, on_epoch: OnEpoch | None = None) -> CausalFilter:
        """Minimum of the penalised QLIKE; nothing in it is random, and it has no epochs."""
        from sklearn.linear_model import GammaRegressor
        from sklearn.metrics import mean_gamma_deviance

        rows, ratios = task.scaled(), task.targets.astype(np.float64)

        def fitted(penalty: float) -> tuple[Any, float]:
            model = GammaRegressor(
                alpha=penalty, solver="newton-cholesky", tol=1e-6, max_iter=_ITERATIONS
            ).fit(rows[task.train], ratios[task.train])
            forecast = model.predict(rows[task.validation])
            return model, float(mean_gamma_deviance(ratios[task.validation], forecast))

        model = self._chosen(fitted)
        return task.served_linear(model.coef_[None, :], np.array([model.intercept_]))
