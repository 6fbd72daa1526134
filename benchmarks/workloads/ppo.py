"""Proximal policy optimization on CartPole, by CleanRL's recipe over a tenth of its time."""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from benchmarks.workloads.batches import epochs
from benchmarks.workloads.cartpole import Poles, mean_return
from benchmarks.workloads.workload import Recipe, Training, Workload, linear

COPIES, LENGTH, EPOCHS, MINIBATCHES = 4, 128, 4, 4
ROLLOUTS = 100
STEPS = ROLLOUTS * EPOCHS * MINIBATCHES
DISCOUNT, TRACE, CLIP, ENTROPY, VALUE = 0.99, 0.95, 0.2, 0.01, 0.5


def _perceptron(outputs: int, gain: float) -> nn.Sequential:
    sizes = ((4, 64, 2**0.5), (64, 64, 2**0.5), (64, outputs, gain))
    layers = []
    for inputs, width, size in sizes:
        layer = nn.Linear(inputs, width)
        nn.init.orthogonal_(layer.weight, size)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class ActorCritic(nn.Module):
    """Two perceptrons: one that acts, one that tells how good a state is."""

    def __init__(self) -> None:
        super().__init__()
        self.actor, self.critic = _perceptron(2, 0.01), _perceptron(1, 1.0)

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """From states (..., 4) to logits of the actions (..., 2) and values (...)."""
        return self.actor(states), self.critic(states).squeeze(-1)


class Experience(NamedTuple):
    """Steps in the environment: states (n, 4), all else (n,)."""

    states: Tensor
    actions: Tensor
    chances: Tensor  # logarithms of the probabilities that the actions had
    values: Tensor
    advantages: Tensor


class PPO(Training):
    """Training of an actor and a critic.

    A step is one gradient step on one minibatch. 16 of them follow each rollout, and the learning
    rate falls with each; CleanRL lowers it once per rollout.

    Args:
        seed: of weights, episodes, actions and batches.
    """

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = ActorCritic()
        recipe = Recipe(torch.optim.Adam, 2.5e-4, {"eps": 1e-5}, schedule=linear(STEPS))
        super().__init__([(self.model, recipe)], clip=0.5)
        self.poles = Poles(COPIES, seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.minibatches = self._minibatches()

    def loss(self) -> Tensor:
        """Loss of the clipped policy, the clipped values and the entropy; acts when needed."""
        batch = next(self.minibatches)
        logits, values = self.model(batch.states)
        policy = Categorical(logits=logits, validate_args=False)
        ratio = (policy.log_prob(batch.actions) - batch.chances).exp()
        gains = batch.advantages
        gains = (gains - gains.mean()) / (gains.std() + 1e-8)
        clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
        acting = -torch.minimum(gains * ratio, gains * clipped).mean()
        return acting - ENTROPY * policy.entropy().mean() + VALUE * _value_loss(values, batch)

    def metric(self) -> float:
        """Mean return of 20 episodes of the likeliest actions, at most 500."""
        return mean_return(self.model, lambda states: self.model(states)[0].argmax(1))

    def _minibatches(self) -> Iterator[Experience]:
        while True:
            experience = self._rollout()
            size = len(experience.states) // MINIBATCHES
            batches = epochs(experience, size, self.generator)
            for batch in islice(batches, EPOCHS * MINIBATCHES):
                yield Experience(*batch)

    @torch.no_grad()
    def _rollout(self) -> Experience:
        steps, values = [], []
        for _ in range(LENGTH):
            states = self.poles.states
            logits, value = self.model(states)
            chances = logits.log_softmax(1)
            drawn = torch.multinomial(chances.exp(), 1, generator=self.generator)
            chance = chances.gather(1, drawn).squeeze(1)
            actions = drawn.squeeze(1)
            rewards, fallen, valid = self.poles.step(actions)
            steps.append((states, actions, chance, rewards, fallen, self.poles.ended, valid))
            values.append(value)
        values.append(self.model(self.poles.states)[1])
        states, actions, chances, rewards, fallen, ended, valid = map(
            torch.stack, zip(*steps, strict=True)
        )
        advantages = _advantages(rewards, torch.stack(values), fallen, ended)
        parts = states, actions, chances, torch.stack(values[:-1]), advantages
        return Experience(*(part[valid] for part in parts))


def _advantages(rewards: Tensor, values: Tensor, fallen: Tensor, ended: Tensor) -> Tensor:
    # Generalized advantage estimation (J. Schulman et al., 2016). An episode that was cut at 500
    # steps still has the value of its last state, one whose pole fell has none.
    errors = rewards + DISCOUNT * values[1:] * ~fallen - values[:-1]
    advantages = torch.empty_like(rewards)
    after = torch.zeros_like(rewards[0])
    for i in reversed(range(len(rewards))):
        after = errors[i] + DISCOUNT * TRACE * after * ~ended[i]
        advantages[i] = after
    return advantages


def _value_loss(values: Tensor, batch: Experience) -> Tensor:
    returns = batch.advantages + batch.values
    near = batch.values + (values - batch.values).clamp(-CLIP, CLIP)
    return 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2).mean()


WORKLOAD = Workload(
    name="ppo",
    title="proximal policy optimization, CartPole",
    build=PPO,
    steps=STEPS,
    every=64,
    metric="mean return",
    higher=True,
    source="after S. Huang et al., CleanRL, ppo.py, https://github.com/vwxyzjn/cleanrl: "
    "50,000 actions instead of 500,000",
)
