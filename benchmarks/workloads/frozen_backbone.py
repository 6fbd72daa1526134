"""Training that starts from trained weights: a new head on a frozen convnet, and more digits."""

from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.batches import epochs
from benchmarks.workloads.evaluating import accuracy
from benchmarks.workloads.pretrained import pretrained
from benchmarks.workloads.workload import Recipe, Training, Workload, cosine
from meta_train.data.dataset import Dataset
from meta_train.data.images import images

WIDTH = 128
"""Features of the convnet."""
SIZE = 16
"""Of the images of CIFAR-10 in pixels: a quarter of the time of 32."""


class Classification(Training):
    """Training of a classifier of images with cross-entropy.

    Args:
        model: from images (n, channels, height, width) to logits (n, classes).
        recipe: of the model.
        data: with splits `train` and `test`.
        seed: of batches.
        batch: number of images.
        tested: number of test images that count; None for all.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        data: Dataset,
        seed: int,
        *,
        batch: int,
        tested: int | None = None,
    ) -> None:
        super().__init__([(model, recipe)])
        self.model = model
        self.batches = epochs(data.splits["train"], batch, torch.Generator().manual_seed(seed))
        self.test = tuple(tensor[:tested] for tensor in data.splits["test"])

    def loss(self) -> Tensor:
        """Cross-entropy of the next batch, in nats."""
        inputs, labels = next(self.batches)
        return F.cross_entropy(self.model(inputs), labels)

    def metric(self) -> float:
        """Accuracy on test images."""
        return accuracy(self.model, *self.test)


def convnet() -> nn.Sequential:
    """Three convolutions with batch norm, then the mean over pixels: (n, 3, h, w) to (n, 128)."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 32), (32, 64), (64, WIDTH)):
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten())


def perceptron() -> nn.Sequential:
    """Two hidden layers of 128, for digits of 8 x 8 pixels."""
    hidden = [nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(128, 10))


def frozen(seed: int, head: str) -> Classification:
    """Train a head for classes 5 to 9 of CIFAR-10 on a convnet that has learned classes 0 to 4.

    Args:
        seed: of the convnet, the head and the order of images.
        head: `linear` or `two_layers`.
    """
    backbone = convnet()
    backbone.load_state_dict(pretrained("cifar10-first-half", seed, _first_half))
    backbone.requires_grad_(False)
    torch.manual_seed(seed)
    layers = [nn.Dropout(0.2), nn.Linear(WIDTH, 5)]
    if head == "two_layers":
        layers = [nn.Linear(WIDTH, WIDTH), nn.ReLU(), *layers]
    model = nn.Sequential(backbone, *layers)
    backbone.eval()
    recipe = Recipe(torch.optim.Adam, lr=1e-3)
    return Classification(model, recipe, _half(second=True), seed, batch=64, tested=2000)


def next_digits(seed: int) -> Classification:
    """Train a perceptron further on the digits that it has learned."""
    model = perceptron()
    model.load_state_dict(pretrained("digits", seed, _digits))
    return _on_digits(seed + 1, model, Recipe(torch.optim.AdamW, lr=1e-3))


def _first_half(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    backbone = convnet()
    model = nn.Sequential(backbone, nn.Linear(WIDTH, 5))
    steps = 1500
    recipe = Recipe(torch.optim.Adam, lr=3e-3, schedule=cosine(steps))
    _train(Classification(model, recipe, _half(second=False), seed, batch=64), steps)
    return backbone


def _digits(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = perceptron()
    _train(_on_digits(seed, model, Recipe(torch.optim.Adam, lr=1e-3)), 1000)
    return model


def _on_digits(seed: int, model: nn.Module, recipe: Recipe) -> Classification:
    splits = images("digits", 8).splits
    # 600 images that it has not learned from, so that one of them counts less.
    unseen = tuple(map(torch.cat, zip(splits["held_out"], splits["test"], strict=True)))
    data = Dataset("digits", {"train": splits["train"], "test": unseen}, classes=10)
    return Classification(model, recipe, data, seed, batch=32)


@cache
def _half(*, second: bool) -> Dataset:
    splits = {}
    for split, (pixels, labels) in images("cifar10", SIZE).splits.items():
        chosen = (labels >= 5) == second
        splits[split] = pixels[chosen], labels[chosen] - 5 * second
    return Dataset("cifar10", splits, classes=5)


def _train(run: Classification, steps: int) -> None:
    ((model, recipe),) = run.recipes
    optimizer = recipe.optimizer(recipe.groups(model), lr=recipe.lr)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * (recipe.schedule(step) if recipe.schedule else 1.0)
        run.step([optimizer])


def _frozen(name: str, title: str, head: str) -> Workload:
    return Workload(
        name=name,
        title=f"{title} on a frozen convnet, CIFAR-10",
        build=partial(frozen, head=head),
        steps=1000,
        every=50,
        metric="test accuracy",
        higher=True,
        task="fine-tuning",
        source="F. Chollet, Transfer learning & fine-tuning, https://keras.io/guides/"
        "transfer_learning: frozen features without batch statistics, dropout 0.2, "
        "Adam with its defaults",
    )


WORKLOADS = (
    _frozen("frozen_linear", "linear head", "linear"),
    _frozen("frozen_two_layers", "head of two layers", "two_layers"),
    Workload(
        name="digits_next",
        title="perceptron trained further, digits",
        build=next_digits,
        steps=300,
        every=15,
        metric="test accuracy",
        higher=True,
        task="fine-tuning",
        source="PyTorch's defaults: AdamW goes on where Adam with the same learning rate has been",
    ),
)
