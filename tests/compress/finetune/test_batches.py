import torch
from hypothesis import given
from hypothesis import strategies as st

from compress.finetune.batches import Blend, batch_indices, batches_per_epoch, blend, varied


@given(st.integers(1, 60), st.integers(1, 16), st.integers(0, 5))
def test_an_epoch_takes_every_image_at_most_once(images: int, batch: int, seed: int) -> None:
    steps = batches_per_epoch(images, batch)

    taken = torch.cat(list(batch_indices(images, batch, seed=seed, first_step=0, steps=steps))).tolist()

    assert len(set(taken)) == len(taken) == min(images, steps * batch)


def test_epochs_have_orders_of_their_own_and_a_later_start_changes_none() -> None:
    whole = [batch.tolist() for batch in batch_indices(24, 8, seed=0, first_step=0, steps=6)]

    rest = [batch.tolist() for batch in batch_indices(24, 8, seed=0, first_step=2, steps=6)]

    assert whole[:3] != whole[3:]
    assert rest == whole[2:]


def test_images_are_moved_or_mirrored_and_filled_at_the_edges() -> None:
    picture = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    fill = torch.tensor([-7.0])

    varieties = varied(picture.expand(64, 1, 4, 4), fill, shift=1, seed=0, step=0)

    shifted = torch.nn.functional.pad(picture, [1] * 4, value=-7.0)
    crops = [shifted[0, 0, row : row + 4, column : column + 4] for row in range(3) for column in range(3)]
    allowed = [*crops, *(crop.flip(1) for crop in crops)]
    seen = {next(number for number, crop in enumerate(allowed) if torch.equal(crop, image[0])) for image in varieties}
    assert len(seen) > 12  # of 18


def test_variation_is_a_function_of_seed_and_step() -> None:
    pictures = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    fill = torch.zeros(3)

    outcomes = [
        varied(pictures, fill, shift=2, seed=seed, step=step) for seed, step in ((0, 1), (0, 1), (1, 1), (0, 2))
    ]

    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])
    assert not torch.equal(outcomes[0], outcomes[3])


def test_a_blend_is_the_weighted_mean_of_two_images_of_the_batch() -> None:
    pictures = torch.tensor([0.0, 10.0, 20.0]).reshape(3, 1, 1, 1).expand(3, 2, 4, 4)
    mixed = Blend(partners=torch.tensor([1, 2, 0]), shares=torch.tensor([0.25, 0.0, 0.5])).of(pictures)

    assert mixed.shape == pictures.shape
    assert mixed[:, 0, 0, 0].tolist() == [2.5, 10.0, 10.0]


@given(st.integers(1, 40), st.floats(0, 1), st.integers(0, 3), st.integers(0, 100))
def test_every_image_goes_into_one_other_with_at_most_the_allowed_share(
    images: int, most: float, seed: int, step: int
) -> None:
    found, again = (blend(images, most=most, seed=seed, step=step) for _ in range(2))

    assert sorted(found.partners.tolist()) == list(range(images))
    assert float(found.shares.min()) >= 0
    assert float(found.shares.max()) <= most + 1e-6
    assert torch.equal(found.partners, again.partners)
    assert torch.equal(found.shares, again.shares)


def test_steps_are_blended_differently() -> None:
    first, second = (blend(64, most=0.5, seed=0, step=step) for step in (0, 1))

    assert not torch.equal(first.partners, second.partners)
    assert not torch.equal(first.shares, second.shares)
