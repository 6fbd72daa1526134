"""A deep Q-network on CartPole, by CleanRL's recipe over an eighth of its time."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.cartpole import Poles, mean_return
from benchmarks.workloads.workload import Recipe, Training, Workload
from meta_train.tasks.model_parts import perceptron

STEPS, COPIES, KEPT, BATCH = 6_000, 10, 10_000, 128
FIRST, TARGET_EVERY, EXPLORATION = 100, 50, 0.5
DISCOUNT = 0.99


class Memory:
    """The latest transitions.

    Args:
        size: how many.
    """

    def __init__(self, size: int) -> None:
        self.before, self.after = torch.zeros(size, 4), torch.zeros(size, 4)
        self.actions = torch.zeros(size, dtype=torch.int64)
        self.rewards, self.fallen = torch.zeros(size), torch.zeros(size)
        self.size, self.seen = size, 0

    def add(self, *transitions: Tensor) -> None:
        """Add states before, actions, rewards, states after, and whether the pole fell."""
        rows = torch.arange(self.seen, self.seen + len(transitions[0])) % self.size
        kept = (self.before, self.actions, self.rewards, self.after, self.fallen)
        for tensor, new in zip(kept, transitions, strict=True):
            tensor[rows] = new.to(tensor.dtype)
        self.seen += len(rows)

    def sample(self, number: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw some, in the order of the arguments of :meth:`add`."""
        rows = torch.randint(min(self.seen, self.size), (number,), generator=generator)
        kept = (self.before, self.actions, self.rewards, self.after, self.fallen)
        return tuple(tensor[rows] for tensor in kept)


class DQN(Training):
    """Training of a Q-network.

    A step is one gradient step, after one action in each of ten copies: CleanRL takes ten steps in
    one. The learning rate is constant, so that this decides nothing else.

    Args:
        seed: of weights, episodes, exploration and batches.
    """

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(*perceptron([4, 120, 84, 2], "relu"))
        super().__init__([(self.model, Recipe(torch.optim.Adam, lr=2.5e-4))])
        self.target = copy.deepcopy(self.model).requires_grad_(False)
        self.poles, self.memory = Poles(COPIES, seed), Memory(KEPT)
        self.generator = torch.Generator().manual_seed(seed)
        self.taken = 0
        for _ in range(FIRST):
            self._act(explore=1.0)

    def loss(self) -> Tensor:
        """Act, draw a batch, and return the mean squared error of its values."""
        if self.taken % TARGET_EVERY == 0:
            self.target.load_state_dict(self.model.state_dict())
        self._act(explore=max(0.05, 1 - 0.95 * self.taken / (EXPLORATION * STEPS)))
        self.taken += 1
        before, actions, rewards, after, fallen = self.memory.sample(BATCH, self.generator)
        best = self.target(after).amax(1)
        wanted = rewards + DISCOUNT * (1 - fallen) * best
        values = self.model(before).gather(1, actions.unsqueeze(1)).squeeze(1)
        return F.mse_loss(values, wanted)

    def metric(self) -> float:
        """Mean return of 20 episodes without exploration, at most 500."""
        return mean_return(self.model, self._best)

    def _act(self, explore: float) -> None:
        random = torch.randint(2, (COPIES,), generator=self.generator)
        at_random = torch.rand(COPIES, generator=self.generator) < explore
        before = self.poles.states
        with torch.no_grad():
            actions = torch.where(at_random, random, self._best(before))
        rewards, fallen, valid = self.poles.step(actions)
        transitions = before, actions, rewards, self.poles.states, fallen
        self.memory.add(*(tensor[valid] for tensor in transitions))

    def _best(self, states: Tensor) -> Tensor:
        return self.model(states).argmax(1)


WORKLOAD = Workload(
    name="dqn",
    title="deep Q-network, CartPole",
    build=DQN,
    steps=STEPS,
    every=240,
    metric="mean return",
    higher=True,
    source="after S. Huang et al., CleanRL, dqn.py, https://github.com/vwxyzjn/cleanrl: "
    "60,000 actions instead of 500,000, the first 1,000 at random",
)
