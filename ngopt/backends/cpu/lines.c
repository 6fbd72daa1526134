/* Sizes of matrices, and of their rows and columns. Stands behind product.c. */
#include <math.h>

static double squares(const real *x, word count, word stride) {
  double sum = 0;
  if (stride == 1) {
#pragma omp simd reduction(+ : sum)
    for (word i = 0; i < count; i++) sum += (double)x[i] * x[i];
  } else
    for (word i = 0; i < count; i++) sum += (double)x[i * stride] * x[i * stride];
  return sum;
}

static void scale(real *x, word count, word stride, real factor) {
  for (word i = 0; i < count; i++) x[i * stride] *= factor;
}

/* Bring all rows, or all columns, to a root mean square of 1. */
static void equalize(word rows, word columns, int by_column, double eps, real *x) {
  const word lines = by_column ? columns : rows, count = by_column ? rows : columns;
  const word next = by_column ? 1 : columns, along = by_column ? columns : 1;
  for (word i = 0; i < lines; i++) {
    const double square = squares(x + i * next, count, along) / (double)count;
    scale(x + i * next, count, along, (real)(1 / sqrt(square + eps * eps)));
  }
}
