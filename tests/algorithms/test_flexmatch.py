from __future__ import annotations

import io

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from leaf_fer.algorithms.fixmatch import FixMatch
from leaf_fer.algorithms.flexmatch import FlexMatch

from .saying import START, STRONG, WEAK, Says, batch_of, close, logits_of, problem_of

# spec 3.14, of 20 unlabeled images
COUNTS, THRESHOLDS = [8, 4, 1], [0.95, 0.316667, 0.063333]
GUESSES = [[0.96, 0.03, 0.01], [0.30, 0.35, 0.35], [0.90, 0.05, 0.05]]
UNSEEN = [13, 14, 15]
"""Images that have no label yet in the table of those counts."""


def make(counts: list[int] | None = None, **options) -> FlexMatch:
    """A method that was sure of so many images of each class; the first images have labels."""
    algorithm = FlexMatch(problem_of(), Says(), **options)
    if counts:
        label = torch.arange(3).repeat_interleave(torch.tensor(counts))
        algorithm.table.write(torch.arange(len(label)), label, torch.ones(len(label)))
    return algorithm


def data(**changes):
    return batch_of([logits_of(GUESSES)], [STRONG], **{"row": UNSEEN, **changes})


def run(algorithm: FlexMatch | FixMatch, batch) -> dict[str, Tensor]:
    return algorithm.loss(batch, Says(), START).terms


def costs(labels: list[int]) -> Tensor:
    return F.cross_entropy(torch.tensor(STRONG), torch.tensor(labels), reduction="none")


class TestThresholds:
    @pytest.mark.parametrize(
        ("counts", "warmup", "beta"),
        [
            ([8, 4, 1], True, [1, 0.5, 0.125]),
            ([4, 2, 0], True, [0.285714, 0.142857, 0]),
            ([4, 2, 0], False, [1, 0.5, 0]),
            ([9, 4, 1], True, [1, 0.444444, 0.111111]),
        ],
    )
    def test_they_follow_the_learning_status_of_the_specification(self, counts, warmup, beta):
        beta = torch.tensor(beta)
        close(make(counts, threshold_warmup=warmup).thresholds(), 0.95 * beta / (2 - beta))

    @pytest.mark.parametrize(
        ("counts", "expected"), [(COUNTS, THRESHOLDS), ([4, 2, 0], [0.158333, 0.073077, 0])]
    )
    def test_they_are_those_of_the_specification(self, counts, expected):
        close(make(counts).thresholds(), expected)

    @pytest.mark.parametrize("warmup", [True, False])
    def test_at_the_start_they_are_0(self, warmup):
        assert make(threshold_warmup=warmup).thresholds().tolist() == [0, 0, 0]

    def test_the_best_learned_class_has_the_full_threshold(self):
        close(make(COUNTS, threshold=0.7).thresholds().max(), 0.7)

    def test_they_are_those_of_the_loop_over_all_labels(self):
        generator = torch.Generator().manual_seed(0)
        algorithm = make()
        for _ in range(12):
            row = torch.randperm(20, generator=generator)[:5]
            label = torch.randint(3, (5,), generator=generator)
            mask = torch.randint(2, (5,), generator=generator).float()
            algorithm.table.write(row, label, mask)
            labels = algorithm.table.label.tolist()
            most = max(labels.count(c) for c in (-1, 0, 1, 2))
            beta = [labels.count(c) / most for c in range(3)]
            close(algorithm.thresholds(), [0.95 * b / (2 - b) for b in beta])


class TestLoss:
    def test_the_mask_is_that_of_the_specification(self):
        batch = data()
        objective = make(COUNTS).loss(batch, Says(), START)
        objective.terms["pseudo"].backward()
        assert batch.unlabeled.strong[0].grad.any(1).tolist() == [True, True, False]
        close(objective.watch["mask"], 2 / 3)
        close(objective.terms["pseudo"], costs([0, 1, 0])[:2].sum() / 3)

    def test_only_what_reaches_the_full_threshold_is_written(self):
        algorithm = make(COUNTS)
        run(algorithm, data())
        assert algorithm.table.label[UNSEEN].tolist() == [0, -1, -1]
        beta = torch.tensor([1, 0.444444, 0.111111])
        close(algorithm.thresholds(), 0.95 * beta / (2 - beta))

    def test_a_step_is_masked_before_it_is_written(self):
        algorithm = make()
        sure = batch_of([10 * torch.eye(3)], [STRONG])
        objective = algorithm.loss(sure, Says(), START)
        assert objective.watch["thresholds"].tolist() == [0, 0, 0]
        assert algorithm.table.counts.tolist() == [1, 1, 1, 17]

    def test_a_class_that_nothing_was_ever_sure_of_lets_everything_pass(self):
        doubtful = batch_of([[[0, 0, 0.01]] * 3], [STRONG], row=UNSEEN)
        objective = make([8, 4, 0]).loss(doubtful, Says(), START)
        assert objective.watch["mask"] == 1
        close(objective.terms["pseudo"], costs([2, 2, 2]).mean())

    @pytest.mark.parametrize(
        ("rows", "share"), [(WEAK, 1 / 3), ([[0.1, 3, -2], [5, 0, 0], [0, 0, 4]], 2 / 3)]
    )
    def test_equally_learned_classes_give_fixmatch(self, rows, share):
        same = batch_of([rows], [STRONG], row=[18, 19, 0])
        flex = make([6, 6, 6]).loss(same, Says(), START)
        fixed = FixMatch(problem_of(), Says(), threshold=0.95).loss(same, Says(), START)
        close(flex.watch["mask"], share)
        assert flex.terms == fixed.terms

    def test_without_a_threshold_it_is_fixmatch_without_a_threshold(self):
        fixed = FixMatch(problem_of(), Says(), threshold=0.0)
        assert run(make(COUNTS, threshold=0.0), data()) == run(fixed, data())

    def test_thresholds_are_inclusive(self):
        # One class only, so its threshold is the full one: here exactly what is said.
        sure = logits_of([[0.5, 0.25, 0.25]]).softmax(1).max().item()
        algorithm = make([20, 0, 0], threshold=sure)
        same = batch_of([logits_of([[0.5, 0.25, 0.25]])], [STRONG[:1]])
        assert algorithm.loss(same, Says(), START).watch["mask"] == 1


class TestTable:
    def test_a_later_confident_prediction_replaces_a_label(self):
        algorithm = make(COUNTS)
        run(algorithm, batch_of([[[0, 0, 9], [0, 9, 0]]], [STRONG[:2]], row=[0, 12]))
        assert algorithm.table.label[[0, 12]].tolist() == [2, 1]
        assert algorithm.table.counts.tolist() == [7, 5, 1, 7]

    def test_an_uncertain_prediction_leaves_a_label_as_it_is(self):
        algorithm = make(COUNTS)
        run(algorithm, batch_of([[[0, 0, 1], [0, 1, 0]]], [STRONG[:2]], row=[0, 12]))
        assert algorithm.table.label[[0, 12]].tolist() == [0, 2]
        assert algorithm.table.counts.tolist() == [8, 4, 1, 7]

    def test_labels_find_their_images_through_shuffled_batches(self):
        algorithm = make()
        generator = torch.Generator().manual_seed(0)
        truth = torch.randint(3, (20,), generator=generator)
        sure = torch.arange(20) % 4 > 0
        logits = torch.where(sure[:, None], 9.0, 1.0) * F.one_hot(truth, 3)
        loader = DataLoader(range(20), 6, shuffle=True, drop_last=True, generator=generator)
        visited = torch.zeros(20, dtype=torch.bool)
        for _ in range(2):
            for row in loader:
                run(algorithm, batch_of([logits[row]], [logits[row]], row=row.tolist()))
                visited[row] = True
        expected = torch.where(sure & visited, truth, -1)
        assert algorithm.table.label.tolist() == expected.tolist()
        counts = [int((expected == c).sum()) for c in (0, 1, 2, -1)]
        assert algorithm.table.counts.tolist() == counts

    def test_it_survives_saving_and_loading_bit_by_bit(self):
        algorithm, resumed = make(COUNTS), make([1, 1, 1])
        run(algorithm, data())
        file = io.BytesIO()
        torch.save(algorithm.state_dict(), file)
        file.seek(0)
        resumed.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(resumed.table.label, algorithm.table.label)
        assert torch.equal(resumed.thresholds(), algorithm.thresholds())
        assert run(resumed, data(row=[0, 1, 19])) == run(algorithm, data(row=[0, 1, 19]))
        assert torch.equal(resumed.table.label, algorithm.table.label)

    def test_it_has_one_row_per_unlabeled_image(self):
        algorithm = FlexMatch(problem_of(num_labeled=3, num_unlabeled=33), Says())
        assert algorithm.table.label.tolist() == [-1] * 33


def test_its_defaults_are_those_of_the_specification():
    algorithm = make()
    assert (algorithm.threshold, algorithm.weight, algorithm.threshold_warmup) == (0.95, 1, True)
