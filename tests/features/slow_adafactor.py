"""Features of Celo2 and small_fc_lopt straight from their formulas, tap by tap, in numpy."""

import numpy as np


def rsqrt(x):
    return 1 / np.sqrt(x)


class SlowAdafactor:
    """The running state of one tensor `(out, in, taps)`, or of one vector.

    Args:
        shape: its shape.
        momenta: decays of the momenta.
        square: decay of the mean square.
        factors: decays of the row and column means.
        eps: added to the mean square inside its root.
    """

    def __init__(self, shape, momenta, square, factors, eps):
        self.decays = momenta, square, factors
        self.eps = eps
        self.m = [np.zeros(shape) for _ in momenta]
        self.v = np.zeros(shape)
        self.vector = len(shape) == 1
        if self.vector:
            self.f = [np.zeros(shape) for _ in factors]
            return
        out, into, taps = shape
        self.over_in = into > out  # d0, which rows are averaged over; else it is `out`
        d0, d1 = (into, out) if self.over_in else (out, into)
        self.r = [np.zeros((taps, d1)) for _ in factors]
        self.c = [np.zeros((taps, d0)) for _ in factors]

    def take(self, g):
        momenta, square, factors = self.decays
        self.m = [b * m + (1 - b) * g for m, b in zip(self.m, momenta, strict=True)]
        self.v = square * self.v + (1 - square) * g**2
        for number, a in enumerate(factors):
            if self.vector:
                self.f[number] = a * self.f[number] + (1 - a) * (g**2 + 1e-30)
                continue
            for tap in range(g.shape[2]):
                matrix = g[:, :, tap] ** 2 + 1e-30  # (d1, d0)
                matrix = matrix if self.over_in else matrix.T
                for i, line in enumerate(matrix):
                    self.r[number][tap, i] = a * self.r[number][tap, i] + (1 - a) * np.mean(line)
                for j, line in enumerate(matrix.T):
                    self.c[number][tap, j] = a * self.c[number][tap, j] + (1 - a) * np.mean(line)

    def features(self, g, p):
        """The 28 features of small_fc_lopt, each of the tensor's shape, not yet normalised."""
        root = rsqrt(self.v + self.eps)
        if self.vector:
            rows = columns = self.f
            scales = [rsqrt(np.maximum(f + 1e-9, 1e-9)) for f in self.f]
            slow = [(f + 1e-6) ** -0.5 for f in self.f]
        else:
            rows = [self.tile(r, 0, g.shape) for r in self.r]
            columns = [self.tile(c, 1, g.shape) for c in self.c]
            scales = slow = [self.scale(n, g.shape) for n in range(len(self.r))]
        return [
            *(g, p, *self.m, self.v, *(m * root for m in self.m), root),
            *(g * scale for scale in scales),
            *rows,
            *columns,
            *(rsqrt(r + 1e-8) for r in rows),
            *(rsqrt(c + 1e-8) for c in columns),
            *(m * scale for m, scale in zip(self.m, slow, strict=True)),
        ]

    def scale(self, number, shape):
        """One over the root of the factored mean squares."""
        r, c = self.r[number], self.c[number]
        rows, columns = np.zeros_like(r), np.zeros_like(c)
        for tap in range(shape[2]):
            rows[tap] = rsqrt(np.maximum(r[tap] / (np.mean(r[tap]) + 1e-9), 1e-9))
            columns[tap] = rsqrt(np.maximum(c[tap], 1e-9))
        return self.tile(rows, 0, shape) * self.tile(columns, 1, shape)

    def tile(self, lines, side, shape):
        """Repeat `(taps, d1)` for side 0, `(taps, d0)` for side 1, to the tensor's shape."""
        result = np.zeros(shape)
        by_out = self.over_in == (side == 0)
        for out in range(shape[0]):
            for into in range(shape[1]):
                result[out, into] = lines[:, out if by_out else into]
        return result


def perceptron(net, x):
    """Run the network on features `(..., inputs)`."""
    layers = [[part.detach().double().numpy() for part in (a.weight, a.bias)] for a in net.layers]
    for number, (weight, bias) in enumerate(layers):
        x = (np.maximum(x, 0) if number else x) @ weight + bias
    return x
