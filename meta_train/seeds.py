"""Seeds of numbered parts of a piece of work, so that each part can be drawn by itself."""

import torch


def part_seed(seed: int, number: int) -> int:
    """Seed of a part: neighbours, and parts of neighbouring seeds, share nothing.

    Args:
        seed: of the whole.
        number: of the part, from 0.
    """
    generator = torch.Generator().manual_seed(seed)
    return int(torch.randint(2**62, (number + 1,), generator=generator)[-1])
