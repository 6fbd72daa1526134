/* Whitening of bundles; see ngopt/rules/buckets/whitening.py. Stands behind product.c and lines.c.
 *
 * Sizes of each bundle are its three sides, the last for taps. Its tensors are the momentum, the
 * gradient, the covariances of each side, and their roots; null where a side has none. Numbers are
 * the least mean square, and the share of the gradient in the covariances. */

enum { MOMENTUM, GRADIENT, COVARIANCES, ROOTS = COVARIANCES + 3, TENSORS = ROOTS + 3 };

/* From (first, second, taps) to (second, first, taps). */
static void swap(word first, word second, word taps, const real *from, real *to) {
  for (word i = 0; i < first; i++)
    for (word j = 0; j < second; j++)
      memcpy(to + (j * first + i) * taps, from + (i * second + j) * taps,
             (size_t)taps * sizeof(real));
}

/* Bring numbers to a norm of 1. */
static void normalize(real *x, word count, double lowest) {
  const double mean = squares(x, count, 1) / (double)count;
  scale(x, count, 1, (real)(1 / sqrt((mean < lowest ? lowest : mean) * (double)count)));
}

/* The products of lines with lines into covariances. */
static void add(panels memory, word size, word depth, matrix lines, real share, real *covariance) {
  const matrix turned = of(lines.at, lines.along, lines.by);
  product(memory, size, size, depth, lines, turned, share, 1 - share, covariance, covariance, 1);
}

/* The gradient, brought to a norm of 1, into the covariances. */
static void take_in(panels memory, const word *sizes, real **own, real *other,
                    const float *numbers) {
  const word a = sizes[0], b = sizes[1], taps = sizes[2];
  real *gradient = own[GRADIENT], **covariances = own + COVARIANCES, share = numbers[1];
  normalize(gradient, a * b * taps, numbers[0]);
  if (covariances[0])
    add(memory, a, b * taps, of(gradient, b * taps, 1), share, covariances[0]);
  if (covariances[1] && taps == 1)
    add(memory, b, a, of(gradient, 1, b), share, covariances[1]);
  else if (covariances[1]) {
    swap(a, b, taps, gradient, other);
    add(memory, b, a * taps, of(other, a * taps, 1), share, covariances[1]);
  }
  if (covariances[2]) add(memory, taps, a * b, of(gradient, 1, taps), share, covariances[2]);
}

/* The momentum, multiplied by the roots from all sides. */
static void whiten(panels memory, const word *sizes, real **own, real *other, double lowest) {
  const word a = sizes[0], b = sizes[1], taps = sizes[2];
  real *now = own[MOMENTUM], *next = other, *swapped, **roots = own + ROOTS;
  normalize(now, a * b * taps, lowest);
#define TURNS (swapped = now, now = next, next = swapped)
  if (roots[0]) {
    product(memory, a, b * taps, a, of(roots[0], a, 1), of(now, b * taps, 1), 1, 0, next, next, 0);
    TURNS;
  }
  if (roots[1] && taps == 1) {
    product(memory, a, b, b, of(now, b, 1), of(roots[1], b, 1), 1, 0, next, next, 0);
    TURNS;
  } else if (roots[1]) {
    swap(a, b, taps, now, next);
    product(memory, b, a * taps, b, of(roots[1], b, 1), of(next, a * taps, 1), 1, 0, now, now, 0);
    swap(b, a, taps, now, next);
    TURNS;
  }
  if (roots[2]) {
    product(memory, a * b, taps, taps, of(now, taps, 1), of(roots[2], taps, 1), 1, 0, next, next, 0);
    TURNS;
  }
  if (now != own[MOMENTUM]) memcpy(own[MOMENTUM], now, (size_t)(a * b * taps) * sizeof(real));
}

/* First takes gradients in; then, if `finish`, whitens momenta. */
void run(word bundles, word finish, word *sizes, real **tensors, float *numbers) {
  word side = 0, largest = 0;
  for (word n = 0; n < bundles; n++) {
    const word *own = sizes + 3 * n, count = own[0] * own[1] * own[2];
    /* All but one of the sides may be together the columns, and all of them but taps the rows. */
    side = most(side, most(own[0] * own[1], most(own[1] * own[2], own[0] * own[2])));
    largest = most(largest, count);
  }
  panels memory = panels_for(side);
  real *other = malloc((size_t)largest * sizeof(real));
  if (!other) abort();
  for (; bundles > 0; bundles--, sizes += 3, tensors += TENSORS) {
    if (finish)
      whiten(memory, sizes, tensors, other, numbers[0]);
    else
      take_in(memory, sizes, tensors, other, numbers);
  }
  free(memory.high);
  free(memory.wide);
  free(other);
}
