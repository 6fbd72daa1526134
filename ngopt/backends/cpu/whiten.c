/* Whitening of bundles; see ngopt/rules/buckets/whitening.py. Stands behind product.c and lines.c.
 *
 * Sizes of each bundle are its three sides, the last for taps, and the ranks of their covariances; 0
 * for whole ones. Its tensors are the momentum, the gradient, the covariances of each side, and their
 * roots; null where a side has none. Numbers are the least mean square, and the share of the gradient
 * in the covariances. */

enum { SIDES = 3, SIZES = 2 * SIDES };
enum { MOMENTUM, GRADIENT, COVARIANCES, ROOTS = COVARIANCES + SIDES, TENSORS = ROOTS + SIDES };

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

/* The products of lines with lines into covariances. Of low rank, these are directions, products with
 * them, and variances; see LowRankCovariance. */
static void add(panels memory, word size, word rank, word depth, matrix lines, real share,
                real *covariance, real *inner) {
  const matrix turned = of(lines.at, lines.along, lines.by);
  if (!rank) {
    product(memory, size, size, depth, lines, turned, share, 1 - share, covariance, covariance, 1);
    return;
  }
  real *products = covariance + size * rank, *variances = products + size * rank;
  product(memory, depth, rank, size, turned, of(covariance, rank, 1), 1, 0, inner, inner, 0);
  product(memory, size, rank, depth, lines, of(inner, rank, 1), share, 1 - share, products, products,
          0);
  for (word i = 0; i < size; i++) variances[i] *= 1 - share;
  /* In memory there is one line after the other, or one entry of all lines after the other. */
  const int by_line = lines.along == 1;
  const real *x = lines.at;
  for (word i = 0; i < (by_line ? size : depth); i++)
    for (word j = 0; j < (by_line ? depth : size); j++, x++)
      variances[by_line ? i : j] += share * *x * *x;
}

/* The gradient, brought to a norm of 1, into the covariances. */
static void take_in(panels memory, const word *sizes, real **own, real *other, real *inner,
                    const float *numbers) {
  const word a = sizes[0], b = sizes[1], taps = sizes[2], *ranks = sizes + SIDES;
  real *gradient = own[GRADIENT], **covariances = own + COVARIANCES, share = numbers[1];
  normalize(gradient, a * b * taps, numbers[0]);
  if (covariances[0])
    add(memory, a, ranks[0], b * taps, of(gradient, b * taps, 1), share, covariances[0], inner);
  if (covariances[1] && taps == 1)
    add(memory, b, ranks[1], a, of(gradient, 1, b), share, covariances[1], inner);
  else if (covariances[1]) {
    swap(a, b, taps, gradient, other);
    add(memory, b, ranks[1], a * taps, of(other, a * taps, 1), share, covariances[1], inner);
  }
  if (covariances[2])
    add(memory, taps, ranks[2], a * b, of(gradient, 1, taps), share, covariances[2], inner);
}

/* A root, times the lines of a side: root @ given, of which `given` has rows that are `others` long.
 * Of low rank, roots are a number and a matrix beside the directions; see LowRankRoot. */
static void from_left(panels memory, const real *root, const real *directions, word size, word rank,
                      word others, const real *given, real *inner, real *out) {
  const matrix lines = of(given, others, 1);
  if (!rank) {
    product(memory, size, others, size, of(root, size, 1), lines, 1, 0, out, out, 0);
    return;
  }
  product(memory, rank, others, size, of(directions, 1, rank), lines, 1, 0, inner, inner, 0);
  product(memory, size, others, rank, of(root + 1, rank, 1), of(inner, others, 1), -1, *root, given,
          out, 0);
}

/* The same from the right: given @ root, of rows that are as long as the side. */
static void from_right(panels memory, const real *root, const real *directions, word size, word rank,
                       word others, const real *given, real *inner, real *out) {
  const matrix lines = of(given, size, 1);
  if (!rank) {
    product(memory, others, size, size, lines, of(root, size, 1), 1, 0, out, out, 0);
    return;
  }
  product(memory, others, rank, size, lines, of(directions, rank, 1), 1, 0, inner, inner, 0);
  product(memory, others, size, rank, of(inner, rank, 1), of(root + 1, 1, rank), -1, *root, given,
          out, 0);
}

/* The momentum, multiplied by the roots from all sides. */
static void whiten(panels memory, const word *sizes, real **own, real *other, real *inner,
                   double lowest) {
  const word a = sizes[0], b = sizes[1], taps = sizes[2], *ranks = sizes + SIDES;
  real *now = own[MOMENTUM], *next = other, *swapped;
  real **covariances = own + COVARIANCES, **roots = own + ROOTS;
  normalize(now, a * b * taps, lowest);
#define TURNS (swapped = now, now = next, next = swapped)
  if (roots[0]) {
    from_left(memory, roots[0], covariances[0], a, ranks[0], b * taps, now, inner, next);
    TURNS;
  }
  if (roots[1] && taps == 1) {
    from_right(memory, roots[1], covariances[1], b, ranks[1], a, now, inner, next);
    TURNS;
  } else if (roots[1]) {
    swap(a, b, taps, now, next);
    from_left(memory, roots[1], covariances[1], b, ranks[1], a * taps, next, inner, now);
    swap(b, a, taps, now, next);
    TURNS;
  }
  if (roots[2]) {
    from_right(memory, roots[2], covariances[2], taps, ranks[2], a * b, now, inner, next);
    TURNS;
  }
  if (now != own[MOMENTUM]) memcpy(own[MOMENTUM], now, (size_t)(a * b * taps) * sizeof(real));
}

/* First takes gradients in; then, if `finish`, whitens momenta. */
void run(word bundles, word finish, word *sizes, real **tensors, float *numbers) {
  word side = 0, largest = 0, inner = 0;
  for (word n = 0; n < bundles; n++) {
    const word *own = sizes + SIZES * n, count = own[0] * own[1] * own[2];
    /* All but one of the sides may be together the columns, and of several taps all others the rows. */
    side = most(side, most(own[1] * own[2], own[0] * own[2]));
    if (own[2] > 1) side = most(side, own[0] * own[1]);
    largest = most(largest, count);
    for (word s = 0; s < SIDES; s++) inner = most(inner, own[SIDES + s] * (count / own[s]));
  }
  panels memory = panels_for(side);
  real *other = malloc((size_t)(largest + inner) * sizeof(real));
  if (!other) abort();
  for (; bundles > 0; bundles--, sizes += SIZES, tensors += TENSORS) {
    if (finish)
      whiten(memory, sizes, tensors, other, other + largest, numbers[0]);
    else
      take_in(memory, sizes, tensors, other, other + largest, numbers);
  }
  free(memory.high);
  free(memory.wide);
  free(other);
}
