"""Which buffers of a module follow its neurons."""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrizations import _SpectralNorm


def state_buffers(module: nn.Module) -> tuple[str, ...]:
    """Names of the buffers of a module that follow its neurons, as the running means of a norm do.

    All other buffers are constants, such as masks and frequencies, and pin what they meet.
    """
    if isinstance(module, _NormBase):
        return ("running_mean", "running_var")
    if isinstance(module, _SpectralNorm):
        return ("_u", "_v")
    return ()
