from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leaf_fer import functional as fn
from leaf_fer.algorithms.comatch import CoMatch
from leaf_fer.models.classifier import Unit
from leaf_fer.types import Batch, Views

from .saying import (
    KNOWN,
    START,
    STRONG,
    Says,
    batch_of,
    close,
    logits_of,
    problem_of,
    view,
)

# spec 3.11
P = [[0.7, 0.2, 0.1], [0.2, 0.6, 0.2]]
BEFORE = [[0.5, 0.3, 0.2]]
ALIGNED = [[0.563218, 0.218391, 0.218391], [0.128440, 0.522936, 0.348624]]
EMBEDDED = [[1, 0.2], [0.1, 1]]
KEYS = [[1, 0], [0, 1], [1, 1]]
VALUES = [[1, 0, 0], [0, 1, 0], [0.2, 0.3, 0.5]]
SMOOTHED = [[0.580120, 0.207420, 0.212460], [0.121375, 0.552532, 0.326093]]

GRAPH = [[0.85, 0.10, 0.05], [0.80, 0.15, 0.05], [0.10, 0.80, 0.10]]
FIRST = [[1, 0.1], [0.8, 0.4], [0.2, 1]]
SECOND = [[0.9, 0.3], [1, 0], [-0.1, 1]]


def make(**options) -> CoMatch:
    """A method whose embeddings are the normalized features."""
    algorithm = CoMatch(problem_of(), Says(), embedding=2, **{"memory": 3, **options})
    algorithm.project = Unit()
    return algorithm


def filled(**options) -> CoMatch:
    algorithm = make(**options)
    while not algorithm.memory.full:
        algorithm.memory.push(torch.cat([unit(KEYS), torch.tensor(VALUES)], 1))
    algorithm.align(torch.tensor(BEFORE))
    return algorithm


def unit(rows: list[list[float]]) -> Tensor:
    return F.normalize(torch.tensor(rows, dtype=torch.float32))


def data(weak: Tensor, strong: list[Tensor], **changes) -> Batch:
    """A batch whose labeled images are of classes 0 and 1."""
    known = view(KNOWN, torch.ones(2, 2))
    return batch_of([weak], strong, **{"known": known, "target": [0, 1], **changes})


def smoothing_batch() -> Batch:
    weak = view(logits_of(P), EMBEDDED)
    return data(weak, [view(STRONG[:2], FIRST[:2]), view(STRONG[1:], SECOND[:2])])


def graph_batch() -> Batch:
    weak = view(logits_of(GRAPH), KEYS)
    return data(weak, [view(STRONG, FIRST), view(STRONG[::-1], SECOND)])


def unaligned(algorithm: CoMatch) -> CoMatch:
    algorithm.align.target.copy_(torch.tensor(GRAPH).mean(0))
    return algorithm


def run(algorithm: CoMatch, batch: Batch) -> dict[str, Tensor]:
    return algorithm.loss(batch, Says(), START).terms


class TestPseudoLabels:
    def test_alignment_gives_the_vector_of_the_specification(self):
        close(filled().align(torch.tensor(P)), ALIGNED)

    def test_equal_seen_and_wanted_shares_change_nothing(self):
        algorithm = unaligned(make())
        close(algorithm.align(torch.tensor(GRAPH)), GRAPH)

    def test_smoothing_gives_the_vector_of_the_specification(self):
        close(filled().smooth(unit(EMBEDDED), torch.tensor(ALIGNED)), SMOOTHED)

    def test_predictions_are_aligned_then_smoothed_then_taught(self):
        terms = run(filled(threshold=0.0), smoothing_batch())
        expected = F.cross_entropy(torch.tensor(STRONG[:2]), torch.tensor(SMOOTHED))
        close(terms["pseudo"], expected.item())

    def test_smoothing_starts_once_the_memory_is_full(self):
        algorithm = make()
        p = torch.tensor(ALIGNED)
        algorithm.memory.push(torch.cat([unit(KEYS), torch.tensor(VALUES)], 1)[:2])
        assert torch.equal(algorithm.smooth(unit(EMBEDDED), p), p)
        algorithm.memory.push(torch.cat([unit(KEYS), torch.tensor(VALUES)], 1)[2:])
        close(algorithm.smooth(unit(EMBEDDED), p), SMOOTHED)

    def test_a_memory_that_fills_up_in_a_step_smooths_from_the_next_step_on(self):
        algorithm = make(memory=4, threshold=0.0)
        batch = smoothing_batch()
        p = torch.tensor(P) / torch.tensor(P).mean(0)
        p = p / p.sum(1, keepdim=True)
        close(run(algorithm, batch)["pseudo"], F.cross_entropy(torch.tensor(STRONG[:2]), p).item())
        assert algorithm.memory.full
        q = algorithm.smooth(unit(EMBEDDED), p)
        assert not torch.allclose(p, q)
        close(run(algorithm, batch)["pseudo"], F.cross_entropy(torch.tensor(STRONG[:2]), q).item())

    def test_a_share_of_1_does_without_the_memory(self):
        p = torch.tensor(ALIGNED)
        close(filled(smoothing=1.0).smooth(unit(EMBEDDED), p), ALIGNED)

    def test_a_share_of_0_takes_the_classes_of_similar_images(self):
        # spec 3.11, A times the classes in the memory
        attention = torch.tensor([[0.668608, 0.013235, 0.318157], [0.008462, 0.744913, 0.246625]])
        found = filled(smoothing=0.0).smooth(unit(EMBEDDED), torch.tensor(ALIGNED))
        close(found, attention @ torch.tensor(VALUES))

    def test_the_mask_is_made_from_smoothed_predictions(self):
        # 0.563 becomes 0.580.
        objective = filled(threshold=0.57).loss(smoothing_batch(), Says(), START)
        assert objective.watch["mask"] == 0.5
        expected = F.cross_entropy(torch.tensor(STRONG[:1]), torch.tensor(SMOOTHED[:1])) / 2
        close(objective.terms["pseudo"], expected.item())

    def test_only_the_first_strong_view_learns_the_classes(self):
        batch = smoothing_batch()
        run(filled(threshold=0.0), batch)["pseudo"].backward()
        first, second = batch.unlabeled.strong
        assert first.grad[:, :3].any()
        assert not first.grad[:, 3:].any()
        assert not second.grad.any()


class TestMemory:
    def test_it_holds_aligned_but_unsmoothed_predictions(self):
        algorithm = filled(memory=6)
        run(algorithm, smoothing_batch())
        close(algorithm.memory.rows[:2, 2:], ALIGNED)

    def test_it_holds_labels_as_certain_predictions(self):
        algorithm = filled(memory=6)
        run(algorithm, smoothing_batch())
        assert algorithm.memory.rows[2:4, 2:].tolist() == [[1, 0, 0], [0, 1, 0]]

    def test_it_holds_embeddings_of_weak_views_and_of_labeled_images(self):
        algorithm = make(memory=4)
        known = view([[1, 0, 0], [0, 1, 0]], [[3, 4], [-4, 3]])
        strong = view(STRONG[:2], FIRST[:2])
        run(algorithm, data(view(logits_of(P), EMBEDDED), [strong] * 2, known=known))
        close(algorithm.memory.rows[:, :2], torch.cat([unit(EMBEDDED), unit([[3, 4], [-4, 3]])]))

    def test_the_oldest_images_make_room(self):
        algorithm = make(memory=6)
        for _ in range(2):
            run(algorithm, smoothing_batch())
        rows = algorithm.memory.rows
        # Of eight rows the last six stay: two labeled ones, then a whole batch.
        assert rows[[2, 3], 2:].tolist() == [[1, 0, 0], [0, 1, 0]]
        assert rows[[0, 1], 2:].tolist() == [[1, 0, 0], [0, 1, 0]]
        close(rows[[4, 5], :2], unit(EMBEDDED))
        assert algorithm.memory.count == 8

    def test_it_carries_no_gradient(self):
        algorithm = make()
        run(algorithm, smoothing_batch())
        assert not algorithm.memory.rows.requires_grad

    def test_three_steps_are_the_loop_of_the_definition(self):
        generator = torch.Generator().manual_seed(0)
        algorithm = make(memory=6, threshold=0.5, smoothing=0.6, window=2)
        memory: list[tuple[list[float], list[float]]] = []
        means: list[Tensor] = []
        for _ in range(4):
            z, s, t = (torch.randn(3, 3, generator=generator) for _ in range(3))
            f, g, h = (torch.randn(3, 2, generator=generator) for _ in range(3))
            k = torch.randn(2, 2, generator=generator)
            known = view(torch.zeros(2, 3), k)
            batch = data(view(z, f), [view(s, g), view(t, h)], known=known, target=[2, 1])
            means.append(z.double().softmax(1).mean(0))
            p = aligned(z.double().softmax(1), means[-2:])
            q = looped_smoothing(F.normalize(f).double(), p, memory, 6, 0.6)
            memory += list(zip(F.normalize(f).double().tolist(), p.tolist(), strict=True))
            memory += list(
                zip(F.normalize(k).double().tolist(), [[0, 0, 1], [0, 1, 0]], strict=True)
            )
            terms = run(algorithm, batch)
            cost = -(q * s.double().log_softmax(1)).sum(1)
            close(terms["pseudo"], ((q.amax(1) >= 0.5) * cost).mean())
            close(terms["contrast"], looped_contrast(q, F.normalize(g), F.normalize(h)))


def aligned(p: Tensor, means: list[Tensor]) -> Tensor:
    weighted = p * (1 / 3 + 1e-6) / (sum(means) / len(means) + 1e-6)
    return weighted / weighted.sum(1, keepdim=True)


def looped_smoothing(f: Tensor, p: Tensor, memory: list, size: int, alpha: float) -> Tensor:
    if len(memory) < size:
        return p
    rows = []
    for feature, own in zip(f.tolist(), p.tolist(), strict=True):
        scores = [
            math.exp(sum(map(float.__mul__, feature, key)) / 0.2) for key, _ in memory[-size:]
        ]
        others = [
            sum(a * value[c] for a, (_, value) in zip(scores, memory[-size:], strict=True))
            for c in range(3)
        ]
        rows.append(
            [alpha * o + (1 - alpha) * v / sum(scores) for o, v in zip(own, others, strict=True)]
        )
    return torch.tensor(rows, dtype=torch.float64)


def looped_contrast(q: Tensor, first: Tensor, second: Tensor) -> float:
    total = 0.0
    for b in range(len(q)):
        edges = [1.0 if j == b else float(q[b] @ q[j]) for j in range(len(q))]
        edges = [e if e >= 0.8 else 0.0 for e in edges]
        scores = [math.exp(float(first[b] @ second[j]) / 0.2) for j in range(len(q))]
        for e, s in zip(edges, scores, strict=True):
            total -= e / sum(edges) * math.log(s / sum(scores))
    return total / len(q)


class TestGraph:
    @pytest.mark.parametrize(("edge", "expected"), [(0.8, 0.616130), (0.6, 0.537293)])
    def test_it_gives_the_vectors_of_the_specification(self, edge, expected):
        algorithm = unaligned(make(memory=100, edge=edge))
        close(run(algorithm, graph_batch())["contrast"], expected)

    def test_its_weight_multiplies_it(self):
        algorithm = unaligned(make(memory=100, contrast_weight=5.0))
        close(run(algorithm, graph_batch())["contrast"], 5 * 0.616130)

    def test_it_is_made_from_smoothed_predictions(self):
        expected, unsmoothed = (
            fn.graph_contrast(torch.tensor(q), unit(FIRST[:2]), unit(SECOND[:2]), edge=0.2)
            for q in (SMOOTHED, ALIGNED)
        )
        assert (expected - unsmoothed).abs() > 1e-4
        close(run(filled(edge=0.2), smoothing_batch())["contrast"], expected)

    def test_both_strong_views_learn_from_it_and_nothing_else(self):
        batch = graph_batch()
        run(make(memory=100, edge=0.3), batch)["contrast"].backward()
        for strong in batch.unlabeled.strong:
            assert strong.grad[:, 3:].any()
            assert not strong.grad[:, :3].any()
        assert batch.unlabeled.weak[0].grad is None
        assert not batch.labeled.weak[0].grad.any()

    def test_its_gradient_is_that_of_the_loss_with_constant_pseudo_labels(self):
        batch = graph_batch()
        run(unaligned(make(memory=100)), batch)["contrast"].backward()
        first, second = (torch.tensor(f).float().requires_grad_() for f in (FIRST, SECOND))
        fn.graph_contrast(torch.tensor(GRAPH), F.normalize(first), F.normalize(second)).backward()
        close(batch.unlabeled.strong[0].grad[:, 3:], first.grad)
        close(batch.unlabeled.strong[1].grad[:, 3:], second.grad)

    def test_it_counts_uncertain_images_too(self):
        algorithm = unaligned(make(memory=100, threshold=1.0))
        terms = run(algorithm, graph_batch())
        assert terms["pseudo"] == 0
        close(terms["contrast"], 0.616130)

    def test_the_embedding_head_learns_from_it(self):
        torch.manual_seed(0)
        algorithm = CoMatch(problem_of(), Says(width=2), memory=100)
        run(algorithm, graph_batch())["contrast"].backward()
        assert all(p.grad.any() for p in algorithm.project.parameters() if p.dim() == 2)

    def test_the_embedding_head_learns_from_nothing_else(self):
        torch.manual_seed(0)
        algorithm = CoMatch(problem_of(), Says(width=2), memory=100, threshold=0.0)
        terms = run(algorithm, graph_batch())
        (terms["supervised"] + terms["pseudo"]).backward()
        assert all(p.grad is None for p in algorithm.project.parameters())


def test_it_asks_for_two_strong_views():
    assert CoMatch.views == Views(labeled="w", unlabeled="wss")


def test_its_defaults_are_those_of_the_specification():
    algorithm = CoMatch(problem_of(), Says())
    assert (algorithm.weight, algorithm.contrast_weight) == (1, 1)
    assert (algorithm.threshold, algorithm.temperature) == (0.95, 0.2)
    assert (algorithm.smoothing, algorithm.edge, algorithm.embedding) == (0.9, 0.8, 64)
    assert len(algorithm.align.means) == 32
