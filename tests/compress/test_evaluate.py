import torch
from torch import Tensor

from compress.evaluate import accuracy, agreement, correct, logits, running_correct, top1


def first_pixel_sign(images: Tensor) -> Tensor:
    return torch.stack([images[:, 0], -images[:, 0]], dim=1)


IMAGES = torch.tensor([[1.0], [-1.0], [2.0], [-3.0], [0.5]])
LABELS = torch.tensor([0, 1, 1, 1, 0])


def test_batches_do_not_change_the_outcome() -> None:
    whole = logits(first_pixel_sign, IMAGES, batch_size=5)

    assert torch.equal(logits(first_pixel_sign, IMAGES, batch_size=2), whole)


def test_the_third_image_has_the_wrong_label() -> None:
    assert correct(first_pixel_sign, IMAGES, LABELS, batch_size=2) == 4
    assert accuracy(first_pixel_sign, IMAGES, LABELS) == 0.8
    assert list(running_correct(first_pixel_sign, IMAGES, LABELS, batch_size=2)) == [(2, 2), (1, 2), (1, 1)]


def test_an_unflattened_head_counts_as_scores() -> None:
    assert top1(torch.tensor([0.1, 0.9, 0.3, 0.2]).reshape(2, 2, 1, 1)).tolist() == [1, 0]


def test_agreement_is_the_share_of_equal_top_classes() -> None:
    first = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])

    assert agreement(first, first.flip(1)) == 0.0
    assert agreement(first, torch.tensor([[1.0, 0.0]] * 4)) == 0.5
