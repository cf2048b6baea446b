import math

import pytest
import torch

from compress.finetune.batches import Blend
from compress.finetune.loss import classification, distillation


def test_equal_scores_are_no_distance_apart() -> None:
    scores = torch.tensor([[1.0, -2.0, 0.5]])

    assert float(distillation(scores, scores + 3, 2.0)) == pytest.approx(0.0, abs=1e-6)


def test_the_distance_is_the_divergence_of_softened_probabilities() -> None:
    # At temperature 2, scores 2·ln 3 and 0 mean 3/4 and 1/4; equal scores mean 1/2 each.
    wanted, scores = torch.tensor([[2 * math.log(3), 0.0]]), torch.zeros(1, 2)

    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert float(distillation(scores, wanted, 2.0)) == pytest.approx(4 * divergence, rel=1e-5)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1, 1)])
def test_an_unflattened_head_changes_nothing(shape: tuple[int, ...]) -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]).reshape(shape)

    loss = classification(scores, torch.tensor([2, 0]))

    assert float(loss) == pytest.approx(math.log(1 + math.exp(-1) + math.exp(-2)), rel=1e-5)


def test_positions_are_classified_one_by_one() -> None:
    scores = torch.zeros(2, 3, 4, 4)

    loss = classification(scores, torch.zeros(2, 4, 4, dtype=torch.long))

    assert float(loss) == pytest.approx(math.log(3), rel=1e-5)


def test_a_blended_image_has_a_share_of_its_partners_label() -> None:
    # Scores 0, ln 3: class probabilities 1/4 and 3/4 for both images.
    scores = torch.tensor([[0.0, math.log(3)]]).expand(2, 2)
    blended = Blend(partners=torch.tensor([1, 0]), shares=torch.tensor([0.25, 0.0]))

    loss = classification(scores, torch.tensor([0, 1]), blended)

    first = -0.75 * math.log(0.25) - 0.25 * math.log(0.75)
    assert float(loss) == pytest.approx((first - math.log(0.75)) / 2, rel=1e-5)
