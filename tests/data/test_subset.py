import numpy as np

from leaf_fer.data.subset import held_out_quotas, natural_quotas
from leaf_fer.data.table import EXPRESSIONS


def test_natural_labels_use_the_whole_budget():
    counts = [8733, 7284, 3136, 3022, 2098, 116, 536, 120]
    for labels in range(8, 3000, 37):
        quotas = natural_quotas(labels, counts, EXPRESSIONS)
        assert quotas.sum() == labels
        assert quotas.min() >= 1
        assert np.all(quotas <= counts)


def test_natural_labels_are_the_largest_remainders_of_a_plain_loop():
    counts = [50, 31, 19]
    for labels in range(12, 100):
        shares = [labels * count / 100 for count in counts]
        expected = [int(share) for share in shares]
        by_remainder = sorted(range(3), key=lambda k: int(shares[k]) - shares[k])
        for index in by_remainder[: labels - sum(expected)]:
            expected[index] += 1
        assert natural_quotas(labels, counts, "abc").tolist() == expected


def test_all_images_may_be_drawn_naturally():
    assert natural_quotas(6, [1, 2, 3], "abc").tolist() == [1, 2, 3]


def test_the_last_image_of_a_class_is_never_held_out():
    assert held_out_quotas(0.5, [0, 1, 2, 9]).tolist() == [0, 0, 1, 4]
