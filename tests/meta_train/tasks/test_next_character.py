import torch

from meta_train.tasks.next_character import next_character


def test_mean_over_all_characters():
    logits, targets = torch.randn(3, 4, 5), torch.randint(5, (3, 4))
    chances = logits.softmax(-1)
    each = [-chances[i, j, targets[i, j]].log() for i in range(3) for j in range(4)]
    torch.testing.assert_close(next_character(logits, targets), torch.stack(each).mean())
