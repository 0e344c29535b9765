from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leaf_fer import functional as fn
from leaf_fer.algorithms.leaf import LEAF, LEAFLiteral, LEAFRelease
from leaf_fer.algorithms.leaf_plus import LEAFPlus
from leaf_fer.types import Batch, Clock, Labeled, Output

from .saying import START, Rows, Says, batch_of, close, problem_of, view

# spec 4.7, "End to end" and "Release batch"
WEAK = [
    [1.8, 1.1, 0.4, -0.3, -0.9, -0.1, 0],
    [5, 0, 0, 0, 0, 0, 0],
    [2, 1.5, -1, -1, -2, -2, -2],
    [3, 2, -1, -1, -2, -2, -2],
]
STRONG = [
    [1, 1.3, 0.9, 0, -0.6, 0.2, -0.2],
    [2, 1, 0, 0, 0, 0, 0],
    [0.5, 1.5, 0.2, -0.4, 0, -1, 0.3],
    [0.5, 1.5, 0.2, -0.4, 0, -1, 0.3],
]
MASK = [0, 1, 1, 1]


def data(weak: Sequence[Rows], strong: Sequence[Rows]) -> Batch:
    """A batch with labeled images of as many numbers, of classes 0, 3 and 6."""
    known = torch.randn(3, len(weak[0][0]), generator=torch.Generator().manual_seed(0))
    return batch_of(weak, strong, known=known, target=[0, 3, 6])


def pair(rows: slice = slice(None)) -> Batch:
    return data([WEAK[rows]], [STRONG[rows]])


def triple(rows: slice = slice(None)) -> Batch:
    return data([WEAK[rows], WEAK[rows]], [STRONG[rows]])


def category(algorithm: LEAF, batch: Batch, clock: Clock = START) -> Tensor:
    return algorithm.loss(batch, Says(7), clock).terms["category"]


class TestDefault:
    def make(self, **options: object) -> LEAF:
        return LEAF(problem_of(7), Says(7), **{"mask": "none", **options})

    def test_it_gives_the_vector_of_the_specification(self):
        objective = self.make().loss(pair(slice(1)), Says(7), START)
        close(objective.terms["category"], 1.754639)
        assert objective.watch["positives"].item() == 5

    def test_it_gives_the_batch_of_the_specification(self):
        batch = pair()
        close(category(self.make(), batch), (1.754639 + 0.715181 + 1.573663 + 1.573663) / 4)

    def test_its_partition_has_the_classes_of_the_specification(self):
        belief = torch.tensor(WEAK).softmax(1)
        positive, trust = self.make().partition(belief, [])
        assert positive.sum(1).tolist() == [5, 1, 2, 2]
        assert positive[0].tolist() == [True, True, True, False, False, True, True]
        assert trust.tolist() == [1, 1, 1, 1]

    def test_only_the_strong_view_is_pulled(self):
        batch = pair()
        category(self.make(), batch).backward()
        assert batch.unlabeled.strong[0].grad.any()
        assert batch.unlabeled.weak[0].grad is None

    def test_a_change_that_leaves_the_partition_leaves_the_loss(self):
        batch = pair()
        moved = data([batch.unlabeled.weak[0] + 1e-4], [STRONG])
        assert torch.equal(category(self.make(), moved), category(self.make(), batch))

    def test_the_total_is_the_sum_of_both_terms(self):
        objective = self.make().loss(pair(), Says(7), START)
        x = pair().labeled
        close(objective.terms["supervised"], F.cross_entropy(x.weak[0], x.target).item())
        close(objective.total, sum(term.item() for term in objective.terms.values()))
        assert set(objective.terms) == {"supervised", "category"}

    def test_weights_multiply_the_terms(self):
        one = self.make().loss(pair(), Says(7), START).terms
        other = self.make(weight=3.0, supervised_weight=0.25).loss(pair(), Says(7), START).terms
        close(other["category"], 3 * one["category"].item())
        close(other["supervised"], 0.25 * one["supervised"].item())

    def test_samples_whose_classes_are_all_positive_cost_nothing(self):
        batch = data([torch.zeros(1, 7)], [STRONG[:1]])
        loss = category(self.make(), batch)
        loss.backward()
        assert loss.item() == 0
        assert not batch.unlabeled.strong[0].grad.any()

    def test_without_mass_it_is_the_cross_entropy_with_the_pseudo_label(self):
        expected = F.cross_entropy(torch.tensor(STRONG), torch.tensor([0, 0, 0, 0]))
        close(category(self.make(mass=0.0), pair()), expected.item())

    def test_without_mass_and_with_a_fixed_mask_it_is_fixmatch(self):
        algorithm = self.make(mass=0.0, mask="fixed", threshold=0.6)
        label, mask = fn.confident(torch.tensor(WEAK).softmax(1), 0.6)
        expected = fn.masked_cross_entropy(torch.tensor(STRONG), label, mask)
        assert mask.tolist() == [0, 1, 0, 1]
        close(category(algorithm, pair()), expected.item())

    def test_a_mask_averages_over_the_whole_batch(self):
        algorithm = self.make(mask="fixed", threshold=0.5)
        objective = algorithm.loss(pair(), Says(7), START)
        close(objective.terms["category"], (0.715181 + 1.573663 + 1.573663) / 4)
        assert objective.watch["mask"].item() == 0.75

    def test_masked_samples_have_no_gradient(self):
        batch = pair()
        category(self.make(mask="fixed", threshold=0.5), batch).backward()
        gradient = batch.unlabeled.strong[0].grad
        assert not gradient[0].any()
        assert gradient[1:].abs().amax(1).gt(0).all()

    def test_a_limit_on_positive_classes_drops_samples(self):
        close(category(self.make(max_positives=2), pair()), (0.715181 + 1.573663 + 1.573663) / 4)
        close(category(self.make(max_positives=1), pair()), 0.715181 / 4)

    def test_a_margin_raises_the_loss_as_equation_9_asks(self):
        positive = fn.candidate_set(torch.tensor(WEAK).softmax(1))
        expected = fn.ambiguous_loss(torch.tensor(STRONG), positive, 0.7).mean()
        close(category(self.make(margin=0.7), pair()), expected.item())

    def test_probabilities_can_be_ranked_in_place_of_logits(self):
        positive = fn.candidate_set(torch.tensor(WEAK).softmax(1))
        expected = fn.ambiguous_loss(torch.tensor(STRONG).softmax(1), positive).mean()
        close(category(self.make(score="probabilities"), pair()), expected.item())

    @pytest.mark.parametrize(("step", "share"), [(0, 0.0), (20, 0.5), (40, 1.0), (90, 1.0)])
    def test_a_ramp_grows_the_unlabeled_weight(self, step, share):
        full = category(self.make(), pair()).item()
        found = category(self.make(ramp=0.4), pair(), Clock(step, 100, 20))
        close(found, share * full)

    def test_alignment_makes_the_partition_from_aligned_probabilities(self):
        belief = torch.tensor(WEAK).softmax(1)
        aligned = belief / 7 / belief.mean(0)
        aligned /= aligned.sum(1, keepdim=True)
        positive = fn.candidate_set(aligned)
        assert not torch.equal(positive, fn.candidate_set(belief))
        expected = fn.ambiguous_loss(torch.tensor(STRONG), positive).mean()
        close(category(self.make(align=True), pair()), expected.item())

    def test_the_average_network_can_make_the_partition(self):
        student = Says(7)
        algorithm = LEAF(problem_of(7), student, mask="none", partition_by="average")
        with torch.no_grad():
            student.scale.mul_(-1)
        objective = algorithm.loss(pair(slice(1)), student, START)
        assert objective.watch["positives"].item() == 5
        positive = fn.candidate_set(torch.tensor(WEAK[:1]).softmax(1))
        expected = fn.ambiguous_loss(-torch.tensor(STRONG[:1]), positive)
        close(objective.terms["category"], expected.item())

    def test_the_average_network_follows_the_student(self):
        student = Says(7)
        algorithm = LEAF(problem_of(7), student, partition_by="average")
        with torch.no_grad():
            student.scale.fill_(2.0)
        algorithm.after_step(student)
        assert 1 < algorithm.average.model.scale.item() < 2

    def test_what_is_watched_shows_a_collapse(self):
        batch = data([[[0, 0, 9, 0, 0, 0, 0]] * 4], [STRONG])
        watch = self.make().loss(batch, Says(7), START).watch
        assert watch["shares"].tolist() == [0, 0, 1, 0, 0, 0, 0]


class TestAdaptiveMask:
    def labeled(self) -> list[Labeled]:
        logits = torch.zeros(4, 7)
        logits[[0, 1, 2, 3], [0, 0, 1, 2]] = 10.0
        return [Labeled(torch.arange(4), torch.tensor([0, 0, 1, 5]), weak=(logits,))]

    def test_it_is_the_default_and_starts_at_the_floor(self):
        algorithm = LEAF(problem_of(7), Says(7))
        assert algorithm.mask == "adaptive"
        close(algorithm.thresholds.threshold, [0.8] * 7)
        assert algorithm.loss(pair(), Says(7), START).watch["mask"].item() == 0.25

    def test_it_learns_from_labeled_images_after_every_epoch(self):
        algorithm = LEAF(problem_of(7), Says(7))
        algorithm.after_epoch(Says(7), self.labeled(), Clock(200, 400, 20))
        confidence = math.exp(10) / (math.exp(10) + 6)
        learned = 0.97 * confidence / (1 + math.exp(-10))
        close(algorithm.thresholds.threshold, [learned, learned, 0.8, 0.8, 0.8, 0.8, 0.8])

    @pytest.mark.parametrize("mask", ["none", "fixed"])
    def test_other_masks_do_not_learn(self, mask):
        algorithm = LEAF(problem_of(7), Says(7), mask=mask)
        before = algorithm.thresholds.threshold.clone()
        algorithm.after_epoch(Says(7), self.labeled(), Clock(200, 400, 20))
        assert torch.equal(algorithm.thresholds.threshold, before)

    def test_its_floor_is_the_threshold(self):
        close(LEAF(problem_of(7), Says(7), threshold=0.6).thresholds.threshold, [0.6] * 7)


class TestLiteral:
    def test_it_gives_the_vector_of_the_specification(self):
        objective = LEAFLiteral(problem_of(7), Says(7)).loss(pair(slice(1)), Says(7), START)
        close(objective.terms["category"], 1.057715)
        assert objective.watch["positives"].item() == 6

    def test_its_partition_comes_from_the_strong_view(self):
        positive = fn.candidate_set(torch.tensor(STRONG[:1]).softmax(1))
        assert positive.tolist() == [[True, True, True, True, False, True, True]]

    def test_only_the_weak_view_is_pulled(self):
        batch = pair()
        category(LEAFLiteral(problem_of(7), Says(7)), batch).backward()
        assert batch.unlabeled.weak[0].grad.any()
        assert batch.unlabeled.strong[0].grad is None

    def test_all_samples_count(self):
        assert LEAFLiteral(problem_of(7), Says(7)).loss(pair(), Says(7), START).watch["mask"] == 1

    def test_both_terms_have_weight_1(self):
        algorithm = LEAFLiteral(problem_of(7), Says(7))
        assert (algorithm.supervised_weight, algorithm.weight) == (1, 1)
        assert (algorithm.mass, algorithm.margin, algorithm.ramp) == (0.9, 0, 0)

    def test_other_options_are_passed_on(self):
        assert LEAFLiteral(problem_of(7), Says(7), mass=0.5).mass == 0.5


class TestRelease:
    def make(self, **options: object) -> LEAFRelease:
        return LEAFRelease(problem_of(7), Says(7), **{"threshold": 0.5, **options})

    def views(self) -> list[Output]:
        """Two weak views whose mean logits are those of the specification."""
        generator = torch.Generator().manual_seed(0)
        apart = torch.randn(4, 7, generator=generator)
        logits = torch.tensor(WEAK)
        return [Output(logits, logits + apart), Output(logits, logits - apart)]

    def test_its_partition_and_weights_come_from_mean_logits(self):
        views = self.views()
        positive, trust = self.make().partition(views[0].probabilities, views)
        assert positive.sum(1).tolist() == [3, 1, 1, 1]
        assert positive[0].tolist() == [True, True, True, False, False, False, False]
        close(trust, [0.844748, 0.995990, 0.594615, 0.774328])

    def test_its_ranking_has_the_losses_of_the_specification(self):
        positive, _ = fn.fuzzy_set(torch.tensor(WEAK).softmax(1))
        found = fn.ambiguous_loss(torch.tensor(STRONG), positive)
        close(found, [1.559734, 0.715181, 1.873963, 1.873963])

    def test_without_rescaling_it_is_the_weighted_mean_of_the_specification(self):
        close(category(self.make(rescale=False, mask="none"), triple()), 1.148811)

    def test_it_gives_the_batch_of_the_specification(self):
        objective = self.make().loss(triple(), Says(7), START)
        close(objective.terms["category"], 1.121946)
        assert objective.watch["mask"].item() == 0.75

    def test_its_gradient_is_the_ranking_of_all_samples_times_the_ratio(self):
        batch = triple()
        category(self.make(), batch).backward()
        strong = view(STRONG)
        positive, trust = fn.fuzzy_set(torch.tensor(WEAK).softmax(1))
        (1.302154 * 0.75 * (trust * fn.ambiguous_loss(strong, positive)).mean()).backward()
        close(batch.unlabeled.strong[0].grad, strong.grad.tolist())

    def test_label_and_mask_come_from_mean_probabilities(self):
        # Sure of class 0 and sure of class 1: the mean of the logits is undecided, and so is p.
        first, second = torch.zeros(1, 7), torch.zeros(1, 7)
        first[0, 0], second[0, 1] = 12.0, 12.0
        batch = data([first, second], [STRONG[:1]])
        assert self.make(threshold=0.6).loss(batch, Says(7), START).watch["mask"] == 0
        assert self.make(threshold=0.4).loss(batch, Says(7), START).watch["mask"] == 1

    def test_the_labeled_term_has_half_its_weight(self):
        x = triple().labeled
        expected = 0.5 * F.cross_entropy(x.weak[0], x.target).item()
        close(self.make().loss(triple(), Says(7), START).terms["supervised"], expected)

    def test_a_batch_without_confident_samples_has_no_category_loss(self):
        batch = triple()
        loss = category(self.make(threshold=0.99), batch)
        loss.backward()
        assert loss.item() == 0
        assert not batch.unlabeled.strong[0].grad.any()

    def test_uniform_predictions_stay_finite(self):
        flat = torch.zeros(4, 7)
        batch = data([flat, flat], [flat])
        loss = category(self.make(mask="none"), batch)
        loss.backward()
        assert loss.isfinite()
        assert batch.unlabeled.strong[0].grad.isfinite().all()

    def contrasted(self) -> Batch:
        """Logits as in the specification, then features of width 3."""
        generator = torch.Generator().manual_seed(1)
        first, second, strong = (
            view(logits, torch.randn(4, 3, generator=generator)) for logits in (WEAK, WEAK, STRONG)
        )
        return data([first, second], [strong])

    def test_the_contrast_is_between_weak_features_of_rejected_samples(self):
        batch = self.contrasted()
        first, second = (F.normalize(v.detach()[:, 7:], dim=1) for v in batch.unlabeled.weak)
        objective = self.make(threshold=0.6).loss(batch, Says(7), START)
        keep = torch.tensor([1.0, 0, 1, 0])
        close(objective.terms["contrast"], 0.1 * fn.nt_xent(first, second, keep, 0.07).item())

    def test_the_contrast_teaches_both_weak_views_and_only_rejected_samples(self):
        batch = self.contrasted()
        self.make(threshold=0.6).loss(batch, Says(7), START).terms["contrast"].backward()
        for weak in batch.unlabeled.weak:
            assert weak.grad[[0, 2], 7:].any()
            assert not weak.grad[[1, 3]].any()
            assert not weak.grad[:, :7].any()
        assert batch.unlabeled.strong[0].grad is None

    def test_the_category_loss_leaves_the_weak_views_alone(self):
        batch = triple()
        category(self.make(), batch).backward()
        assert all(v.grad is None or not v.grad.any() for v in batch.unlabeled.weak)

    def test_the_total_is_that_of_the_release(self):
        objective = self.make(threshold=0.6).loss(self.contrasted(), Says(7), START)
        assert set(objective.terms) == {"supervised", "category", "contrast"}
        close(objective.total, sum(t.item() for t in objective.terms.values()))

    def test_alignment_reaches_the_fuzzy_partition_too(self):
        positive, _ = self.make(align=True).partition(torch.tensor(STRONG).softmax(1), self.views())
        assert torch.equal(positive, fn.fuzzy_set(torch.tensor(STRONG).softmax(1))[0])


class TestPlus:
    def batch(self) -> Batch:
        """Labels whose two views say different things, and the usual unlabeled pair."""
        weak, strong = torch.tensor(WEAK), torch.tensor(STRONG)
        target = torch.tensor([0, 3, 1, 6])
        known = Labeled(torch.arange(4), target, (weak,), (strong,))
        return Batch(known, pair().unlabeled)

    def test_labels_are_learned_from_both_views_alike(self):
        batch = self.batch()
        found = LEAFPlus(problem_of(7), Says(7)).loss(batch, Says(7), START)
        target = batch.labeled.target
        each = [F.cross_entropy(torch.tensor(z), target).item() for z in (WEAK, STRONG)]
        close(found.terms["supervised"], sum(each) / 2)
        half = LEAFPlus(problem_of(7), Says(7), supervised_weight=0.5)
        close(half.loss(batch, Says(7), START).terms["supervised"], sum(each) / 4)

    def test_the_unlabeled_term_is_that_of_leaf_with_a_fixed_mask(self):
        found = LEAFPlus(problem_of(7), Says(7), threshold=0.6)
        leaf = LEAF(problem_of(7), Says(7), mask="fixed", threshold=0.6)
        expected = leaf.loss(pair(), Says(7), START).terms["category"]
        assert expected > 0
        close(found.loss(self.batch(), Says(7), START).terms["category"], expected.item())


class TestOptions:
    def test_three_profiles_are_one_implementation(self):
        options = {"partition_view": "strong", "partition_by": "student", "mask": "none"}
        literal = LEAF(problem_of(7), Says(7), **options)
        assert torch.equal(
            category(literal, pair()), category(LEAFLiteral(problem_of(7), Says(7)), pair())
        )

    @pytest.mark.parametrize(
        ("profile", "options"),
        [
            (LEAF, {"contrast": 0.1}),
            (LEAFLiteral, {"contrast": 0.1}),
            (LEAFRelease, {"partition_view": "strong"}),
            (LEAFRelease, {"partition_by": "average"}),
        ],
    )
    def test_a_contrast_without_two_trained_weak_views_is_refused(self, profile, options):
        with pytest.raises(ValueError, match=r"contrast=0\.1 needs two views"):
            profile(problem_of(7), Says(7), **options)

    @pytest.mark.parametrize("profile", [LEAF, LEAFLiteral])
    def test_the_guiding_view_has_a_pass_of_its_own_without_gradient(self, profile):
        model = Says(7)
        profile(problem_of(7), model, partition_by="student").loss(pair(), model, START)
        assert model.grad_enabled == [False, True]

    def test_the_average_network_guides_unless_the_text_says_otherwise(self):
        makers = {LEAF: True, LEAFPlus: True, LEAFLiteral: False, LEAFRelease: False}
        for profile, averaged in makers.items():
            assert (profile(problem_of(7), Says(7)).average is not None) == averaged

    @pytest.mark.parametrize(("contrast", "graph"), [(0.1, True), (0.0, False)])
    def test_both_guiding_views_of_the_release_have_passes_of_their_own(self, contrast, graph):
        model = Says(7)
        LEAFRelease(problem_of(7), model, contrast=contrast).loss(triple(), model, START)
        assert model.grad_enabled == [graph, graph, True]

    def test_the_guiding_pass_moves_batch_norm_statistics(self, new_model, new_batch):
        model = new_model().train()
        algorithm = LEAF(problem_of(4), model, partition_by="student")
        algorithm.loss(new_batch(LEAF.views, 0), model, START)
        assert model.backbone[1].num_batches_tracked.item() == 2

    def test_the_average_network_guides_without_moving_statistics(self, new_model, new_batch):
        model = new_model().train()
        algorithm = LEAF(problem_of(4), model, partition_by="average")
        algorithm.loss(new_batch(LEAF.views, 0), model, START)
        assert model.backbone[1].num_batches_tracked.item() == 1
        assert algorithm.average.model.backbone[1].num_batches_tracked.item() == 0
