/* Rough orthogonalization of matrices; see ngopt/rules/layers/polar.py. Stands behind product.c and
 * lines.c. */
#define STRIP 256

/* The polynomial of the gram matrix by which a matrix is to be multiplied, k x k. Of the memory, five
 * matrices, the first is the gram matrix. */
static real *polynomial(panels memory, word k, word steps, const float *coefficients, real *own) {
  real *gram = own, *now = gram + k * k, *factor = now + k * k, *other = factor + k * k;
  real *more = other + k * k;
  for (word step = 0; step < steps; step++, coefficients += 3) {
    product(memory, k, k, k, of(gram, k, 1), of(gram, k, 1), coefficients[2], coefficients[1], gram,
            now, 1);
    for (word i = 0; i < k; i++) now[i * k + i] += coefficients[0];
    real *next = step ? other : factor;
    if (step)
      product(memory, k, k, k, of(now, k, 1), of(factor, k, 1), 1, 0, gram, next, 1);
    else
      memcpy(next, now, (size_t)(k * k) * sizeof(real));
    other = step ? factor : other;
    factor = next;
    if (step < steps - 1) {
      product(memory, k, k, k, of(now, k, 1), of(gram, k, 1), 1, 0, gram, more, 1);
      product(memory, k, k, k, of(more, k, 1), of(now, k, 1), 1, 0, gram, gram, 1);
    }
  }
  return factor;
}

/* Add a share of the mean of the diagonal to it. */
static void damp(word k, double share, real *gram) {
  double sum = 0;
  for (word i = 0; i < k; i++) sum += gram[i * k + i];
  for (word i = 0; i < k; i++) gram[i * k + i] += (real)(share * sum / (double)k);
}

/* x = factor @ x for x of k rows of n, or x @ factor for n rows of k, a strip of x at a time. */
static void apply(panels memory, word k, word n, int wide, const real *factor, real *x,
                  real *strip) {
  for (word from = 0; from < n; from += STRIP) {
    const word here = least(n - from, STRIP);
    if (wide) {
      product(memory, k, here, k, of(factor, k, 1), of(x + from, n, 1), 1, 0, strip, strip, 0);
      for (word i = 0; i < k; i++)
        memcpy(x + i * n + from, strip + i * here, (size_t)here * sizeof(real));
    } else {
      product(memory, here, k, k, of(x + from * k, k, 1), of(factor, k, 1), 1, 0, strip, strip, 0);
      memcpy(x + from * k, strip, (size_t)(here * k) * sizeof(real));
    }
  }
}

/* Sizes are rows, columns, and whose sizes become equal: 0 of nothing, 1 of rows, 2 of columns.
 * Numbers are eps, the least mean square, what is added to squared singular values in units of their
 * mean, then the coefficients of each step. Without steps, sizes alone become equal. */
void run(word matrices, word steps, word *sizes, float **entries, float *numbers) {
  word few = 0, largest = 0;
  for (word m = 0; m < matrices; m++) {
    few = most(few, least(sizes[3 * m], sizes[3 * m + 1]));
    largest = most(largest, sizes[3 * m] * sizes[3 * m + 1]);
  }
  panels memory = panels_for(most(few, STRIP));
  real *own = malloc((size_t)(5 * few * few) * sizeof(real));
  real *strip = malloc((size_t)(few * STRIP) * sizeof(real));
  real *wider = REAL_IS_FLOAT ? 0 : malloc((size_t)largest * sizeof(real));
  if (!(REAL_IS_FLOAT || wider)) abort();
  if (!own || !strip) abort();
  const double eps = numbers[0], lowest = numbers[1], damping = numbers[2];
  for (; matrices > 0; matrices--, sizes += 3, entries++) {
    const word rows = sizes[0], columns = sizes[1], count = rows * columns;
    const int wide = rows <= columns;
    const word k = wide ? rows : columns, n = wide ? columns : rows;
    real *x = wider ? wider : (real *)*entries;
    for (word i = 0; wider && i < count; i++) x[i] = (*entries)[i];
    if (steps) {
      const double mean = squares(x, count, 1) / (double)count;
      scale(x, count, 1, (real)(1 / sqrt((mean < lowest ? lowest : mean) * (double)count)));
      const matrix lines = wide ? of(x, n, 1) : of(x, 1, k), turned = of(x, lines.along, lines.by);
      product(memory, k, k, n, lines, turned, 1, 0, own, own, 1);
      damp(k, damping, own);
      const double inverse = 1 / sqrt(squares(own, k * k, 1) + eps * eps);
      scale(own, k * k, 1, (real)inverse);
      real *factor = polynomial(memory, k, steps, numbers + 3, own);
      scale(factor, k * k, 1, (real)sqrt(inverse));
      apply(memory, k, n, wide, factor, x, strip);
    }
    if (sizes[2]) equalize(rows, columns, sizes[2] == 2, eps, x);
    for (word i = 0; wider && i < count; i++) (*entries)[i] = (float)x[i];
  }
  free(memory.high);
  free(memory.wide);
  free(own);
  free(strip);
  free(wider);
}
