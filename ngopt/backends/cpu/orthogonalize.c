/* Rough orthogonalization of small matrices; see ngopt/rules/layers/polar.py. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

/* out = left @ right, or added to what is there times beta, times alpha; all k x k, symmetric. */
static void product(int64_t k, const double *restrict left, const double *restrict right,
                    double beta, const double *restrict added, double alpha, double *restrict out) {
  for (int64_t i = 0; i < k; i++) {
    double *row = out + i * k;
    for (int64_t j = 0; j < k; j++) row[j] = added ? beta * added[i * k + j] : 0.0;
    for (int64_t l = 0; l < k; l++) {
      double factor = alpha * left[i * k + l];
#pragma omp simd
      for (int64_t j = 0; j < k; j++) row[j] += factor * right[l * k + j];
    }
  }
}

/* gram = x xT for x of k rows of n, or xT x for n rows of k. */
static void gram_of(int64_t k, int64_t n, int wide, const float *restrict x,
                    double *restrict gram) {
  for (int64_t i = 0; i < k * k; i++) gram[i] = 0.0;
  if (wide) {
    for (int64_t i = 0; i < k; i++)
      for (int64_t j = 0; j <= i; j++) {
        double sum = 0.0;
#pragma omp simd reduction(+ : sum)
        for (int64_t l = 0; l < n; l++) sum += (double)x[i * n + l] * x[j * n + l];
        gram[i * k + j] = gram[j * k + i] = sum;
      }
    return;
  }
  for (int64_t l = 0; l < n; l++)
    for (int64_t i = 0; i < k; i++) {
      double factor = x[l * k + i];
#pragma omp simd
      for (int64_t j = 0; j < k; j++) gram[i * k + j] += factor * x[l * k + j];
    }
}

/* x = factor @ x for x of k rows of n, or x @ factor for n rows of k, through some memory. */
static void apply(int64_t k, int64_t n, int wide, const float *restrict factor, float *restrict x,
                  float *restrict memory) {
  enum { WIDTH = 32 };
  if (!wide) {
    for (int64_t l = 0; l < n; l++) {
      for (int64_t j = 0; j < k; j++) memory[j] = 0.0f;
      for (int64_t i = 0; i < k; i++) {
        float own = x[l * k + i];
#pragma omp simd
        for (int64_t j = 0; j < k; j++) memory[j] += own * factor[i * k + j];
      }
      for (int64_t j = 0; j < k; j++) x[l * k + j] = memory[j];
    }
    return;
  }
  for (int64_t from = 0; from < n; from += WIDTH) {
    int64_t width = n - from < WIDTH ? n - from : WIDTH;
    for (int64_t i = 0; i < k; i++) {
      for (int64_t j = 0; j < width; j++) memory[i * WIDTH + j] = 0.0f;
      for (int64_t l = 0; l < k; l++) {
        float own = factor[i * k + l];
#pragma omp simd
        for (int64_t j = 0; j < width; j++) memory[i * WIDTH + j] += own * x[l * n + from + j];
      }
    }
    for (int64_t i = 0; i < k; i++)
      for (int64_t j = 0; j < width; j++) x[i * n + from + j] = memory[i * WIDTH + j];
  }
}

static void equal(int64_t rows, int64_t columns, int by_column, float eps, float *restrict x) {
  if (!by_column) {
    for (int64_t i = 0; i < rows; i++) {
      float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
      for (int64_t j = 0; j < columns; j++) sum += x[i * columns + j] * x[i * columns + j];
      float factor = 1.0f / sqrtf(sum / (float)columns + eps * eps);
#pragma omp simd
      for (int64_t j = 0; j < columns; j++) x[i * columns + j] *= factor;
    }
    return;
  }
  for (int64_t j = 0; j < columns; j++) {
    float sum = 0.0f;
    for (int64_t i = 0; i < rows; i++) sum += x[i * columns + j] * x[i * columns + j];
    float factor = 1.0f / sqrtf(sum / (float)rows + eps * eps);
    for (int64_t i = 0; i < rows; i++) x[i * columns + j] *= factor;
  }
}

/* sizes: rows, columns, and what counts as rows whose sizes become equal: 0 none, 1 rows, 2
   columns. numbers: eps, least mean square, then the coefficients of each polynomial. */
void run(int64_t matrices, int64_t steps, int64_t *sizes, float **entries, float *numbers) {
  for (int64_t number = 0; number < matrices; number++, sizes += 3) {
    int64_t rows = sizes[0], columns = sizes[1];
    int wide = rows <= columns;
    int64_t k = wide ? rows : columns, n = wide ? columns : rows;
    float *x = entries[number];
    double *gram = malloc(sizeof(double) * (size_t)(5 * k * k) + sizeof(float) * (size_t)(k * k + 32 * k));
    if (!gram) abort();
    double *polynomial = gram + k * k, *factor = polynomial + k * k;
    double *other = factor + k * k, *more = other + k * k;
    float *last = (float *)(more + k * k), *narrow = last + 32 * k;
    float eps = numbers[0];
    double total = 0.0;
    for (int64_t i = 0; i < rows * columns; i++) total += (double)x[i] * x[i];
    float square = (float)(total / (double)(rows * columns));
    square = square < numbers[1] ? numbers[1] : square;
    float scale = 1.0f / sqrtf(square) * (float)pow((double)(rows * columns), -0.5);
    for (int64_t i = 0; i < rows * columns; i++) x[i] *= scale;
    gram_of(k, n, wide, x, gram);
    double squares = 0.0;
    for (int64_t i = 0; i < k * k; i++) squares += (double)gram[i] * gram[i];
    double inverse = 1.0 / sqrt(squares + (double)eps * eps);
    for (int64_t i = 0; i < k * k; i++) gram[i] *= inverse;
    for (int64_t step = 0; step < steps; step++) {
      const float *c = numbers + 2 + 3 * step;
      product(k, gram, gram, c[1], gram, c[2], polynomial);
      for (int64_t i = 0; i < k; i++) polynomial[i * k + i] += c[0];
      if (step) product(k, polynomial, factor, 0.0, 0, 1.0, other);
      const double *from = step ? other : polynomial;
      for (int64_t i = 0; i < k * k; i++) factor[i] = from[i];
      if (step < steps - 1) {
        product(k, polynomial, gram, 0.0, 0, 1.0, more);
        product(k, more, polynomial, 0.0, 0, 1.0, gram);
      }
    }
    for (int64_t i = 0; i < k * k; i++) narrow[i] = (float)(factor[i] * sqrt(inverse));
    apply(k, n, wide, narrow, x, last);
    if (sizes[2]) equal(rows, columns, sizes[2] == 2, eps, x);
    free(gram);
  }
}
