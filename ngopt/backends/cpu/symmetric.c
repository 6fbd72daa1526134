/* Symmetric products of matrices, of which one half is computed and copied to the other.
 *
 * Rows and columns of the result are taken in panels: rows one after the other, columns in the order
 * in which they are read. A tile is what a panel of HIGH rows and one of WIDE columns give.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t word;

#define LANES 8
#define HIGH 6
#define WIDE (2 * LANES)
#define DEEP 256
#define BLOCK (24 * HIGH)

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static inline word least(word a, word b) { return a < b ? a : b; }

/* A square of LANES by LANES entries, turned. Its rows are read whole, for where they lie a power of
 * two apart few of them stay in the cache. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE __builtin_shufflevector
#endif
#endif
static inline void turn(float *restrict to, word to_by, const float *restrict from, word by) {
#ifdef SHUFFLE
  lanes a[LANES], b[LANES];
#pragma GCC unroll 8
  for (int j = 0; j < LANES; j++) a[j] = *(const lanes *)(from + j * by);
#pragma GCC unroll 4
  for (int j = 0; j < LANES; j += 2) {
    b[j] = SHUFFLE(a[j], a[j + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    b[j + 1] = SHUFFLE(a[j], a[j + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
#pragma GCC unroll 4
  for (int h = 0; h < 4; h++) {
    const int j = h / 2 * 4 + h % 2;
    a[j] = SHUFFLE(b[j], b[j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    a[j + 2] = SHUFFLE(b[j], b[j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    *(lanes *)(to + j * to_by) = SHUFFLE(a[j], a[j + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    *(lanes *)(to + (j + 4) * to_by) = SHUFFLE(a[j], a[j + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
#else
  for (int k = 0; k < LANES; k++)
    for (int j = 0; j < LANES; j++) to[k * to_by + j] = from[j * by + k];
#endif
}

/* Rows, filled up with zeros to a multiple of HIGH, each DEEP from the one before. `by` and `along`
 * are the strides from row to row and along a row. */
static void pack_rows(float *restrict to, const float *restrict from, word count, word depth,
                      word by, word along) {
  if (along == 1)
    for (word i = 0; i < count; i++)
      memcpy(to + i * DEEP, from + i * by, (size_t)depth * sizeof(float));
  else
    for (word k = 0, deep; k < depth; k += deep) {
      const word squares = by == 1 && depth - k >= LANES ? count / LANES : 0;
      deep = squares ? LANES : 1;
      for (word i = 0; i < squares * LANES; i += LANES)
        turn(to + i * DEEP + k, DEEP, from + i + k * along, along);
      for (word i = squares * LANES; i < count; i++)
        for (word d = k; d < k + deep; d++) to[i * DEEP + d] = from[i * by + d * along];
    }
  for (word i = count; i % HIGH; i++) memset(to + i * DEEP, 0, DEEP * sizeof(float));
}

/* Panels of WIDE columns, filled up with zeros. `by` and `along` are the strides from column to
 * column and along a column. */
static void pack_columns(float *restrict to, const float *restrict from, word count, word depth,
                         word by, word along) {
  for (word at = 0; at < count; at += WIDE, from += WIDE * by) {
    const word here = least(count - at, WIDE);
    for (word k = 0, deep; k < depth; k += deep, to += deep * WIDE) {
      const float *row = from + k * along;
      const int square = here == WIDE && along == 1 && depth - k >= LANES;
      deep = square ? LANES : 1;
      if (square)
        turn(to, WIDE, row, by), turn(to + LANES, WIDE, row + LANES * by, by);
      else if (here == WIDE && by == 1)
        memcpy(to, row, WIDE * sizeof(float));
      else
        for (word j = 0; j < WIDE; j++) to[j] = j < here ? row[j * by] : 0;
    }
  }
}

static void tile(word depth, const float *restrict rows, const float *restrict columns,
                 float *restrict to) {
  lanes sum[HIGH][2] = {{{0}}};
  for (word k = 0; k < depth; k++, rows++, columns += WIDE) {
    const lanes left = *(const lanes *)columns, right = *(const lanes *)(columns + LANES);
#pragma GCC unroll 6
    for (int r = 0; r < HIGH; r++) {
      sum[r][0] += rows[r * DEEP] * left;
      sum[r][1] += rows[r * DEEP] * right;
    }
  }
  for (int r = 0; r < HIGH; r++)
    for (int half = 0; half < 2; half++)
      *(lanes *)(to + r * WIDE + half * LANES) = sum[r][half];
}

static inline void put(float *restrict to, const float *restrict own, const float *restrict added,
                       word columns, float alpha, float beta, int first) {
  if (!first)
    for (word c = 0; c < columns; c++) to[c] += alpha * own[c];
  else if (beta)
    for (word c = 0; c < columns; c++) to[c] = beta * added[c] + alpha * own[c];
  else
    for (word c = 0; c < columns; c++) to[c] = alpha * own[c];
}

static void mirror(float *out, word rows) {
  for (word i0 = 0; i0 < rows; i0 += LANES)
    for (word j0 = 0; j0 <= i0; j0 += LANES)
      if (j0 < i0 && i0 + LANES <= rows)
        turn(out + j0 * rows + i0, rows, out + i0 * rows + j0, rows);
      else
        for (word i = i0; i < i0 + LANES && i < rows; i++)
          for (word j = j0; j < j0 + LANES && j < i; j++) out[j * rows + i] = out[i * rows + j];
}

static word up(word number, word step) { return (number + step - 1) / step * step; }

/* Inputs: both matrices, what is added, the factors of the product and of that, the strides of rows
 * and columns of both. The result, and what is added, are contiguous. */
void run(word rows, word depth, void **inputs, void **outputs) {
  const float *left = inputs[0], *right = inputs[1], *added = inputs[2], *factors = inputs[3];
  const word *by = inputs[4];
  const float alpha = factors[0], beta = factors[1];
  float *out = outputs[0];
  float *high = malloc((size_t)(up(rows, HIGH) * DEEP) * sizeof(float));
  float *wide = malloc((size_t)(up(rows, WIDE) * DEEP) * sizeof(float));
  if (!high || !wide) abort(); /* Nothing that is computed would be right. */
  float sums[HIGH * WIDE];
  for (word k = 0; k < depth; k += DEEP) {
    const word deep = least(depth - k, DEEP);
    pack_rows(high, left + k * by[1], rows, deep, by[0], by[1]);
    pack_columns(wide, right + k * by[2], rows, deep, by[3], by[2]);
    for (word top = 0; top < rows; top += BLOCK) {
      const word bottom = least(top + BLOCK, rows);
      for (word j = 0; j < bottom; j += WIDE) {
        const word columns = least(rows - j, WIDE);
        const word diagonal = j / HIGH * HIGH;
        for (word i = diagonal > top ? diagonal : top; i < bottom; i += HIGH) {
          tile(deep, high + i * DEEP, wide + j * deep, sums);
          for (word r = 0; r < HIGH && i + r < rows; r++) {
            const word at = (i + r) * rows + j;
            /* A number of columns that is known makes faster code. */
            if (columns == WIDE)
              put(out + at, sums + r * WIDE, added + at, WIDE, alpha, beta, !k);
            else
              put(out + at, sums + r * WIDE, added + at, columns, alpha, beta, !k);
          }
        }
      }
    }
  }
  mirror(out, rows);
  free(high);
  free(wide);
}
