from __future__ import annotations

import pytest
import torch

from leaf_fer.types import Clock, Labeled, Objective, Output, Unlabeled, Views


class TestViews:
    @pytest.mark.parametrize("letters", ["", "w", "s", "ws", "ww", "wws", "wss", "wwss"])
    def test_weak_views_come_before_strong_ones(self, letters):
        assert Views("w", letters).unlabeled == letters

    @pytest.mark.parametrize("letters", ["sw", "wsw", "x", "W", "w s", "w,s"])
    def test_anything_else_is_refused(self, letters):
        with pytest.raises(ValueError, match="expected w's, then s's"):
            Views("w", letters)
        with pytest.raises(ValueError, match="labeled views"):
            Views(letters)

    def test_a_method_without_labeled_views_is_refused(self):
        with pytest.raises(ValueError, match="at least one"):
            Views("")


class TestBatches:
    def test_a_labeled_batch_has_a_target_and_an_unlabeled_one_has_none(self):
        index = torch.arange(2)
        assert Labeled(index, torch.tensor([0, 1])).target.tolist() == [0, 1]
        with pytest.raises(TypeError):
            Unlabeled(index, target=torch.tensor([0, 1]))

    def test_no_views_are_an_empty_tuple(self):
        batch = Unlabeled(torch.arange(2))
        assert (batch.weak, batch.strong) == ((), ())


class TestOutput:
    def test_probabilities_are_the_softmax_of_the_logits(self):
        logits = torch.tensor([[4.0, 0, 0], [3, 0, 0], [0.5, 1.5, 0.2]])
        expected = [
            [0.964663, 0.017668, 0.017668],
            [0.909443, 0.045279, 0.045279],
            [0.224260, 0.609603, 0.166136],
        ]  # spec 0.3
        found = Output(logits, logits).probabilities
        torch.testing.assert_close(found, torch.tensor(expected), atol=1e-6, rtol=0)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_probabilities_of_half_precision_logits_are_float32(self, dtype):
        logits = torch.tensor([[50, -50, 0]], dtype=dtype)
        found = Output(logits, logits).probabilities
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.sum(), torch.tensor(1.0))

    def test_detached_output_has_the_same_numbers_without_gradient(self):
        logits = torch.randn(2, 3, requires_grad=True)
        output = Output(2 * logits, 3 * logits).detach()
        assert torch.equal(output.logits, 3 * logits)
        assert not output.features.requires_grad
        assert not output.probabilities.requires_grad

    def test_splitting_and_joining_changes_nothing(self):
        whole = Output(torch.randn(6, 2), torch.randn(6, 3))
        parts = whole.split([1, 3, 2])
        assert [len(p.logits) for p in parts] == [1, 3, 2]
        assert torch.equal(torch.cat([p.features for p in parts]), whole.features)
        assert torch.equal(torch.cat([p.logits for p in parts]), whole.logits)


class TestClock:
    @pytest.mark.parametrize(("step", "ramp"), [(0, 0), (100, 0.25), (400, 1), (900, 1)])
    def test_the_ramp_gives_the_vectors_of_the_specification(self, step, ramp):
        assert Clock(step, 1000, 50).ramp(0.4) == pytest.approx(ramp)

    @pytest.mark.parametrize("step", [0, 999])
    def test_a_ramp_over_nothing_is_1_at_once(self, step):
        assert Clock(step, 1000, 50).ramp(0.0) == 1

    @pytest.mark.parametrize(
        ("step", "ramp"), [(0, 0), (100, 0), (200, 0), (300, 0.25), (400, 0.5), (600, 1), (900, 1)]
    )
    def test_a_ramp_may_start_later(self, step, ramp):
        assert Clock(step, 1000, 50).ramp(0.6, start=0.2) == pytest.approx(ramp)

    @pytest.mark.parametrize("end", [0.1, 0.4, 1.0])
    @pytest.mark.parametrize("start", [0.0, 0.05])
    def test_a_ramp_is_the_clipped_line_through_its_start_and_end(self, end, start):
        for step in range(0, 1001, 25):
            line = (step / 1000 - start) / (end - start)
            found = Clock(step, 1000, 50).ramp(end, start)
            assert found == pytest.approx(min(max(line, 0), 1), abs=1e-12)

    @pytest.mark.parametrize(("step", "ramp"), [(0, 0), (499, 0), (500, 1), (999, 1)])
    def test_a_ramp_that_ends_where_it_starts_is_a_step(self, step, ramp):
        assert Clock(step, 1000, 50).ramp(0.5, start=0.5) == ramp

    @pytest.mark.parametrize(("step", "ramp"), [(0, 0), (399, 0), (400, 1), (600, 1), (999, 1)])
    def test_a_ramp_that_ends_before_it_starts_is_a_step_at_its_end(self, step, ramp):
        assert Clock(step, 1000, 50).ramp(0.4, start=0.6) == ramp

    @pytest.mark.parametrize("step", [0, 500, 999])
    def test_a_ramp_that_ends_after_the_run_never_reaches_1(self, step):
        assert Clock(step, 1000, 50).ramp(2.0) == pytest.approx(step / 2000)

    @pytest.mark.parametrize(("step", "epoch"), [(0, 0), (9, 0), (10, 1), (24, 2)])
    def test_epochs_are_counted_from_0_in_steps(self, step, epoch):
        assert Clock(step, 25, 10).epoch == epoch

    @pytest.mark.parametrize(("total", "epochs"), [(10, 1), (11, 2), (20, 2), (25, 3)])
    def test_the_last_epoch_may_be_shorter(self, total, epochs):
        assert Clock(0, total, 10).num_epochs == epochs

    def test_progress_is_the_share_of_the_run_that_is_done(self):
        assert [Clock(step, 8, 3).progress for step in (0, 2, 8)] == [0, 0.25, 1]


class TestObjective:
    def test_the_total_is_the_sum_of_the_terms(self):
        objective = Objective(supervised=torch.tensor(1.5), pseudo=torch.tensor(0.25))
        assert objective.total.item() == 1.75

    def test_the_total_passes_gradient_to_every_term(self):
        a, b = torch.tensor(1.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)
        Objective(one=3 * a, two=5 * b).total.backward()
        assert (a.grad.item(), b.grad.item()) == (3, 5)

    def test_half_precision_terms_are_added_in_float32(self):
        objective = Objective(a=torch.tensor(256.0).bfloat16(), b=torch.tensor(1.0).bfloat16())
        assert objective.total.dtype == torch.float32
        assert objective.total.item() == 257

    def test_what_is_watched_is_not_part_of_the_loss(self):
        weight = torch.tensor(2.0, requires_grad=True)
        objective = Objective(a=weight, watch={"twice": 2 * weight})
        assert objective.total.item() == 2
        assert not objective.watch["twice"].requires_grad
