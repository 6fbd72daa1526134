"""Graph networks on a generated citation graph of the size of Cora."""

from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.evaluating import evaluating
from benchmarks.workloads.workload import Recipe, Training, Workload

NODES, WORDS, CLASSES, LABELLED = 2708, 1433, 7, 140
DEGREE, HOMOPHILY = 4.0, 0.81
TOPIC, LENGTH = 0.2, 18
GRAPHS, STEPS = 4, 200


@dataclass(frozen=True, eq=False)
class Citations:
    """A graph of papers that cite each other.

    Args:
        words: which words each paper has, rows sum to 1, (nodes, words).
        edges: both directions of each, (2, edges) int64.
        labels: topics of papers, (nodes,) int64.
    """

    words: Tensor
    edges: Tensor
    labels: Tensor


@cache
def citations(seed: int) -> Citations:
    """Draw a contextual stochastic block model: topics decide on words and on who cites whom.

    Sizes, degree, the number of words in a paper and the share of edges within a topic are those
    of Cora. Each topic has words of its own; few of a paper's words are from its topic's.

    Source: Y. Deshpande et al., Contextual Stochastic Block Models, 2018.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (NODES,), generator=generator)
    edges = int(NODES * DEGREE / 2)
    sources = torch.randint(NODES, (edges,), generator=generator)
    alike = torch.rand(edges, generator=generator) < HOMOPHILY
    other = torch.randint(1, CLASSES, (edges,), generator=generator)
    wanted = torch.where(alike, labels[sources], (labels[sources] + other) % CLASSES)
    targets = torch.empty_like(sources)
    for topic in range(CLASSES):
        members, places = (labels == topic).nonzero()[:, 0], wanted == topic
        drawn = torch.randint(len(members), (int(places.sum()),), generator=generator)
        targets[places] = members[drawn]
    both = torch.stack([torch.cat([sources, targets]), torch.cat([targets, sources])])
    return Citations(_words(labels, generator), both, labels)


def _words(labels: Tensor, generator: torch.Generator) -> Tensor:
    common = 1.0 / torch.arange(10, WORDS + 10)
    # Word w belongs to the topic w % 7, so that each topic has frequent words and rare ones.
    own = common * (torch.arange(WORDS) % CLASSES == torch.arange(CLASSES).unsqueeze(1))
    chances = (1 - TOPIC) * common / common.sum() + TOPIC * own / own.sum(1, keepdim=True)
    drawn = torch.multinomial(chances[labels], LENGTH, replacement=True, generator=generator)
    words = torch.zeros(len(labels), WORDS).scatter_(1, drawn, 1.0)
    return words / words.sum(1, keepdim=True)


class TwoConvolutions(nn.Module):
    """Two graph convolutions with dropout before each.

    Args:
        first: from words to hidden features.
        second: from hidden features to classes.
        activation: between them.
        dropout: probability.
    """

    def __init__(
        self, first: nn.Module, second: nn.Module, activation: nn.Module, dropout: float
    ) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.activation, self.dropout = activation, nn.Dropout(dropout)

    def forward(self, graph: Citations) -> Tensor:
        """To logits (nodes, classes)."""
        hidden = self.activation(self.first(self.dropout(graph.words), graph.edges))
        return self.second(self.dropout(hidden), graph.edges)


def gcn() -> TwoConvolutions:
    """16 hidden features."""
    from torch_geometric.nn import GCNConv  # takes seconds to import

    return TwoConvolutions(GCNConv(WORDS, 16), GCNConv(16, CLASSES), nn.ReLU(), 0.5)


def gat() -> TwoConvolutions:
    """Eight heads of eight features; dropout of attention too."""
    from torch_geometric.nn import GATConv  # takes seconds to import

    first = GATConv(WORDS, 8, heads=8, dropout=0.6)
    second = GATConv(64, CLASSES, heads=1, dropout=0.6)
    return TwoConvolutions(first, second, nn.ELU(), 0.6)


class NodeClassification(Training):
    """Training of a graph network on 20 labelled papers of each topic.

    Args:
        seed: of weights and dropout.
        lr: Adam's.
        make: makes the model.
    """

    def __init__(self, seed: int, lr: float, make: str) -> None:
        torch.manual_seed(seed)
        self.model = {"gcn": gcn, "gat": gat}[make]()
        super().__init__([(self.model, Recipe(torch.optim.Adam, lr, decayed=5e-4))])
        self.graphs = [citations(number) for number in range(GRAPHS)]
        labels = self.graphs[0].labels
        each = LABELLED // CLASSES
        self.labelled = torch.cat([(labels == c).nonzero()[:each, 0] for c in range(CLASSES)])

    def loss(self) -> Tensor:
        """Cross-entropy of the labelled papers of the first graph, in nats."""
        logits = self.model(self.graphs[0])[self.labelled]
        return F.cross_entropy(logits, self.graphs[0].labels[self.labelled])

    def metric(self) -> float:
        """Accuracy on the other papers of the first graph, and on all of three more graphs."""
        with evaluating(self.model):
            right = [self.model(graph).argmax(1) == graph.labels for graph in self.graphs]
        unseen = torch.ones(NODES, dtype=torch.bool)
        unseen[self.labelled] = False
        right[0] = right[0][unseen]
        return torch.cat(right).float().mean().item()


def _workload(name: str, title: str, lr: float, source: str) -> Workload:
    return Workload(
        name=name,
        title=f"{title}, generated citations",
        build=partial(NodeClassification, lr=lr, make=name),
        steps=STEPS,
        every=10,
        metric="test accuracy",
        higher=True,
        source=source,
    )


WORKLOADS = (
    _workload(
        "gcn",
        "graph convolutional network",
        0.01,
        "T. Kipf, M. Welling, 2017: the recipe for Cora; weight decay of both layers",
    ),
    _workload(
        "gat",
        "graph attention network",
        0.005,
        "P. Veličković et al., 2018: the recipe for Cora, over 200 steps",
    ),
)
