"""Gymnasium's CartPole: many poles at once, and what counts in the end."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.workloads.evaluating import evaluating

EPISODES, LONGEST = 20, 500


class Poles:
    """Copies of CartPole-v1 that are stepped together.

    An episode ends when the pole falls, or after 500 steps. The step after that, of that copy,
    only begins the next episode: whatever the action, it is no experience (`valid` is false).

    Args:
        number: of copies.
        seed: of the positions that episodes begin with.
    """

    def __init__(self, number: int, seed: int) -> None:
        try:
            import gymnasium
        except ImportError as error:
            raise ImportError(
                "this workload needs gymnasium, which is not installed.\n"
                '  Install it, with `pip install "ngopt[workloads]"` for example.'
            ) from error
        self.copies: Any = gymnasium.make_vec(
            "CartPole-v1", num_envs=number, vectorization_mode="vector_entry_point"
        )
        self.states = torch.from_numpy(self.copies.reset(seed=seed)[0])
        self.ended = torch.zeros(number, dtype=torch.bool)

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Act in each copy; `states` and `ended` are those after it.

        Args:
            actions: 0 or 1, (copies,) int64.

        Returns:
            Rewards, whether the pole fell, and whether the step is experience, each (copies,).
        """
        valid = ~self.ended
        states, rewards, fell, too_long, _ = self.copies.step(actions.numpy())
        self.states = torch.from_numpy(states)
        # Copies, for the simulation goes on to write into its arrays.
        fallen = torch.tensor(fell)
        self.ended = fallen | torch.tensor(too_long)
        return torch.tensor(rewards), fallen, valid


def mean_return(model: nn.Module, actions: Callable[[Tensor], Tensor]) -> float:
    """Mean return of the same 20 episodes each time: steps until the pole fell, at most 500.

    Args:
        model: that acts; it is left as it is.
        actions: those it takes in states (copies, 4), (copies,) int64.
    """
    poles = Poles(EPISODES, seed=1_000_000)
    returns, running = torch.zeros(EPISODES), torch.ones(EPISODES, dtype=torch.bool)
    with evaluating(model):
        for _ in range(LONGEST):
            rewards, _, _ = poles.step(actions(poles.states))
            returns += rewards * running
            running &= ~poles.ended
            if not running.any():
                break
    return returns.mean().item()
