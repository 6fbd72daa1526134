import torch
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.classification import shift_and_flip


def test_shifted_and_mirrored_images_are_crops_of_the_padded_one(generator):
    image = torch.rand(1, 2, 4, 5)
    padded = F.pad(image, [1] * 4)
    crops = [padded[0, :, i : i + 4, j : j + 5] for i in range(3) for j in range(3)]
    crops += [crop.flip(2) for crop in crops]
    seen = set()
    for found in shift_and_flip(image.expand(200, 2, 4, 5), generator, shift=1):
        seen.add(next(i for i, crop in enumerate(crops) if torch.equal(crop, found)))
    assert len(seen) == 18
