import math

import pytest
import torch

from tests.meta_train.tasks.table import task_of


def test_initial_weights_are_those_of_gpt_2():
    module = task_of("gpt_lm:width=64,depth=2,length=32").module
    for name, parameter in module.named_parameters():
        if parameter.dim() == 2:
            added = name.endswith(("out.weight", "perceptron.3.weight"))
            expected = 0.02 / math.sqrt(4) if added else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.1), name
        else:
            assert (parameter == float(name.endswith("weight"))).all(), name


def test_embeddings_make_the_logits():
    module = task_of("gpt_lm:width=8,depth=1,heads=2,length=6").module
    assert not any(len(p) == 96 and "characters" not in n for n, p in module.named_parameters())
    tokens = torch.randint(90, (2, 6))
    hidden = module.norm(module.layers(module.embedding(tokens)))
    torch.testing.assert_close(module(tokens), hidden @ module.embedding.characters.weight.mT)
