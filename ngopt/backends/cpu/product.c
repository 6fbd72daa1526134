/* Products of matrices in REAL: float or double, as REAL_IS_FLOAT tells.
 *
 * They are made of tiles, of what a panel of HIGH rows of the left factor and one of WIDE columns of
 * the right one give. Of products that are symmetric one half is computed, and copied to the other.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t word;
typedef REAL real;

#define LANES (REAL_IS_FLOAT ? 8 : 4)
#define HIGH 6
#define WIDE (2 * LANES)
#define DEEP 256
#define BLOCK (24 * HIGH)

typedef real lanes __attribute__((vector_size(32), aligned(4), may_alias));

static inline word least(word a, word b) { return a < b ? a : b; }

/* A square of LANES by LANES entries, turned. Its rows are read whole, for where they lie a power of
 * two apart few of them stay in the cache. */
#if defined(__has_builtin) && REAL_IS_FLOAT
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE __builtin_shufflevector
#endif
#endif
static inline void turn(real *restrict to, word to_by, const real *restrict from, word by) {
#if defined(SHUFFLE) && REAL_IS_FLOAT
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
static void pack_rows(real *restrict to, const real *restrict from, word count, word depth,
                      word by, word along) {
  if (along == 1)
    for (word i = 0; i < count; i++)
      memcpy(to + i * DEEP, from + i * by, (size_t)depth * sizeof(real));
  else
    for (word k = 0, deep; k < depth; k += deep) {
      const word squares = by == 1 && depth - k >= LANES ? count / LANES : 0;
      deep = squares ? LANES : 1;
      for (word i = 0; i < squares * LANES; i += LANES)
        turn(to + i * DEEP + k, DEEP, from + i + k * along, along);
      for (word i = squares * LANES; i < count; i++)
        for (word d = k; d < k + deep; d++) to[i * DEEP + d] = from[i * by + d * along];
    }
  for (word i = count; i % HIGH; i++) memset(to + i * DEEP, 0, DEEP * sizeof(real));
}

/* Panels of WIDE columns, filled up with zeros. `by` and `along` are the strides from column to
 * column and along a column. */
static void pack_columns(real *restrict to, const real *restrict from, word count, word depth,
                         word by, word along) {
  for (word at = 0; at < count; at += WIDE, from += WIDE * by) {
    const word here = least(count - at, WIDE);
    for (word k = 0, deep; k < depth; k += deep, to += deep * WIDE) {
      const real *row = from + k * along;
      const int square = here == WIDE && along == 1 && depth - k >= LANES;
      deep = square ? LANES : 1;
      if (square)
        turn(to, WIDE, row, by), turn(to + LANES, WIDE, row + LANES * by, by);
      else if (here == WIDE && by == 1)
        memcpy(to, row, WIDE * sizeof(real));
      else
        for (word j = 0; j < WIDE; j++) to[j] = j < here ? row[j * by] : 0;
    }
  }
}

static void tile(word depth, const real *restrict rows, word by, const real *restrict columns,
                 real *restrict to) {
  lanes sum[HIGH][2] = {{{0}}};
  for (word k = 0; k < depth; k++, rows++, columns += WIDE) {
    const lanes left = *(const lanes *)columns, right = *(const lanes *)(columns + LANES);
#pragma GCC unroll 6
    for (int r = 0; r < HIGH; r++) {
      sum[r][0] += rows[r * by] * left;
      sum[r][1] += rows[r * by] * right;
    }
  }
  for (int r = 0; r < HIGH; r++)
    for (int half = 0; half < 2; half++)
      *(lanes *)(to + r * WIDE + half * LANES) = sum[r][half];
}

static inline void put(real *restrict to, const real *restrict own, const real *restrict added,
                       word columns, real alpha, real beta, int first) {
  if (!first)
    for (word c = 0; c < columns; c++) to[c] += alpha * own[c];
  else if (beta)
    for (word c = 0; c < columns; c++) to[c] = beta * added[c] + alpha * own[c];
  else
    for (word c = 0; c < columns; c++) to[c] = alpha * own[c];
}

static void mirror(real *out, word rows) {
  for (word i0 = 0; i0 < rows; i0 += LANES)
    for (word j0 = 0; j0 <= i0; j0 += LANES)
      if (j0 < i0 && i0 + LANES <= rows)
        turn(out + j0 * rows + i0, rows, out + i0 * rows + j0, rows);
      else
        for (word i = i0; i < i0 + LANES && i < rows; i++)
          for (word j = j0; j < j0 + LANES && j < i; j++) out[j * rows + i] = out[i * rows + j];
}

static word up(word number, word step) { return (number + step - 1) / step * step; }

/* Where a matrix lies, and the strides from row to row and along a row. */
typedef struct {
  const real *at;
  word by, along;
} matrix;

static matrix of(const real *at, word by, word along) {
  const matrix found = {at, by, along};
  return found;
}

/* Where panels lie: for products of at most so many rows and columns. */
typedef struct {
  real *high, *wide;
} panels;

/* out = alpha * left @ right + beta * added, of rows that are `columns` long in out and added, and of
 * which nothing above the diagonal is computed if they are symmetric. Factors are `depth` deep. */
static void product(panels memory, word rows, word columns, word depth, matrix left, matrix right,
                    real alpha, real beta, const real *added, real *out, int symmetric) {
  real sums[HIGH * WIDE];
  /* Rows that are there as tiles read them. */
  const word direct = left.along == 1 ? rows / HIGH * HIGH : 0;
  for (word k = 0; k < depth; k += DEEP) {
    const word deep = least(depth - k, DEEP);
    const real *whole = left.at + k * left.along;
    pack_rows(memory.high, whole + direct * left.by, rows - direct, deep, left.by, left.along);
    pack_columns(memory.wide, right.at + k * right.by, columns, deep, right.along, right.by);
    for (word top = 0; top < rows; top += BLOCK) {
      const word bottom = least(top + BLOCK, rows);
      for (word j = 0; j < (symmetric ? bottom : columns); j += WIDE) {
        const word here = least(columns - j, WIDE);
        const word first = symmetric ? j / HIGH * HIGH : 0;
        for (word i = first > top ? first : top; i < bottom; i += HIGH) {
          const int own = i < direct;
          tile(deep, own ? whole + i * left.by : memory.high + (i - direct) * DEEP,
               own ? left.by : DEEP, memory.wide + j * deep, sums);
          for (word r = 0; r < HIGH && i + r < rows; r++) {
            const word at = (i + r) * columns + j;
            /* A number of columns that is known makes faster code. */
            if (here == WIDE)
              put(out + at, sums + r * WIDE, added + at, WIDE, alpha, beta, !k);
            else
              put(out + at, sums + r * WIDE, added + at, here, alpha, beta, !k);
          }
        }
      }
    }
  }
  if (symmetric) mirror(out, rows);
}

static word most(word a, word b) { return a > b ? a : b; }

/* Memory for products of at most so many rows and columns. */
static panels panels_for(word side) {
  const size_t size = (size_t)(up(side, HIGH * WIDE) * DEEP) * sizeof(real);
  const panels found = {malloc(size), malloc(size)};
  if (!found.high || !found.wide) abort(); /* Nothing would be right. */
  return found;
}
