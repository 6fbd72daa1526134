import torch

from ngopt.optim.uncompiled import uncompiled


def test_a_compiler_does_not_look_inside(fresh_compiler):
    seen = []

    @uncompiled
    def hidden(x):
        seen.append(torch.compiler.is_compiling())
        return x + 1

    compiled = torch.compile(lambda x: hidden(x * 2) * 3, backend="eager")
    assert compiled(torch.ones(())) == 9
    assert seen == [False]
