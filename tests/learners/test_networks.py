"""Networks: slices of time, windows on demand, early stopping, determinism, the export's check."""

import dataclasses
import sys
from typing import ClassVar

import numpy as np
import pytest

from learners import networks
from learners.base import Task, time_slices
from learners.networks import TrainingSettings, deterministic, export_onnx, train_network, windows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labels(Task):
    """A task of two classes, scored by what the network gives."""

    quantity: ClassVar = "classes"
    outputs: ClassVar = ("p",)
    channels: ClassVar = 2

    def loss(self, torch, scores, targets):
        return torch.nn.functional.cross_entropy(scores, targets)

    def network(self, torch, body, width): ...

    def served(self, torch, network): ...

    def served_linear(self, weight, bias): ...


def task(rows, labels, train, validation) -> Labels:
    return Labels(
        inputs=("a", "b"),
        rows=rows,
        mean=np.zeros(2),
        std=np.ones(2),
        clip=9.0,
        window=4,
        targets=labels,
        train=train,
        validation=validation,
        calibration=validation[:0],
    )


def test_slices_are_in_order_and_a_purge_lies_between():
    first, second, third = time_slices(100, (0.7, 0.15, 0.15), purge=4)
    np.testing.assert_array_equal(first, np.arange(0, 70))
    np.testing.assert_array_equal(second, np.arange(74, 85))
    np.testing.assert_array_equal(third, np.arange(89, 100))


def test_a_span_too_short_for_its_slices_says_so():
    with pytest.raises(ValueError, match="40 rows cannot be cut into 3 slices with 20 rows"):
        time_slices(40, (0.7, 0.15, 0.15), purge=20)


@pytest.mark.parametrize("absent", ["torch", "onnx"])
def test_without_torch_the_error_says_what_to_install(monkeypatch, absent):
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'beaufort\[train\]'"):
        networks.require_torch()


class TestWithTorch:
    @pytest.fixture(autouse=True)
    def _torch(self):
        pytest.importorskip("torch", reason="training needs the 'train' extra")
        pytest.importorskip("onnx", reason="training needs the 'train' extra")

    def test_windows_end_at_their_row(self):
        rows = np.arange(40, dtype=np.float32).reshape(20, 2)
        with deterministic(0) as torch:
            cut = windows(torch, rows, 3)(np.array([2, 19, 7])).numpy()
        np.testing.assert_array_equal(cut, [rows[0:3], rows[17:20], rows[5:8]])

    @pytest.fixture
    def problem(self):
        """Whether the last two rows sum to more than zero; a tenth of the labels is wrong."""
        rng = np.random.default_rng(5)
        rows = rng.normal(size=(900, 2)).astype(np.float32)
        sums = rows[:, 0].copy()
        sums[1:] += rows[:-1, 0]
        labels = ((sums > 0) ^ (rng.random(900) < 0.1)).astype(np.int64)
        train, validation = time_slices(900, (0.7, 0.3), purge=5)
        return rows, labels, train[3:], validation

    def fit(self, problem, seed=1, on_epoch=None, **settings):
        rows, labels, _, validation = problem
        settings = TrainingSettings(**{"epochs": 8, "batch": 32, "learning_rate": 1e-2, **settings})
        with deterministic(seed) as torch:
            network = torch.nn.Sequential(
                torch.nn.Flatten(), torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)
            )
            loss = torch.nn.functional.cross_entropy
            train_network(torch, network, task(*problem), rows, settings, on_epoch)
            with torch.no_grad():
                said = network(windows(torch, rows, 4)(validation))
            left = float(loss(said, torch.from_numpy(labels[validation])))
            graph = export_onnx(torch, network, windows(torch, rows, 4)(validation[:8]).contiguous().numpy())
        return graph, left

    def test_learns_stops_and_keeps_the_best_epoch(self, problem):
        epochs = []
        _, left = self.fit(problem, on_epoch=epochs.append, epochs=60, patience=4)
        losses = [e.validation_loss for e in epochs]
        best = int(np.argmin(losses))
        assert 0 < best < 60
        assert len(epochs) == best + 4 + 1
        assert left == pytest.approx(min(losses), rel=1e-5)
        assert losses[best] < 0.6 * losses[0]
        assert [e.best for e in epochs][best]

    def test_two_fits_are_equal_to_the_last_bit_and_another_seed_is_not(self, problem):
        assert self.fit(problem)[0] == self.fit(problem)[0]
        assert self.fit(problem)[0] != self.fit(problem, seed=2)[0]

    def test_an_interruption_leaves_torch_as_it_was(self, problem):
        import torch

        def stop(epoch):
            raise KeyboardInterrupt

        torch.manual_seed(99)
        before = torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
        with pytest.raises(KeyboardInterrupt):
            self.fit(problem, on_epoch=stop)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[1:]

    def test_a_loss_that_is_never_a_number_is_an_error(self, problem):
        rows, labels, train, validation = problem
        with pytest.raises(ValueError, match="was never a number"):
            self.fit((np.full_like(rows, np.nan), labels, train, validation))

    def test_an_export_that_differs_from_the_network_is_refused(self):
        with deterministic(0) as torch:

            class Forgetful(torch.nn.Module):
                """Its answer depends on how often it was asked, which a graph cannot know."""

                asked = 0

                def forward(self, window):
                    self.asked += 1
                    return window.sum(1) + self.asked

            with pytest.raises(ValueError, match="ONNX Runtime and torch differ by"):
                export_onnx(torch, Forgetful(), np.ones((2, 3, 1), dtype=np.float32))
