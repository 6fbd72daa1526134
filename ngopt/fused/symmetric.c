/* Symmetric products of matrices, of which one half is computed and copied to the other.
 *
 * Rows and columns of the result are taken in panels, whose entries are packed in the order in which
 * they are read. A tile is what a panel of HIGH rows and one of WIDE columns give.
 */
#include <stdint.h>
#include <stdlib.h>

typedef int64_t word;

#define LANES 8
#define HIGH 6
#define WIDE (2 * LANES)
#define DEEP 256
#define BLOCK (24 * HIGH)

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static void tile(word depth, const float *restrict rows, const float *restrict columns,
                 float *restrict to) {
  lanes sum[HIGH][2] = {{{0}}};
  for (word k = 0; k < depth; k++, rows += HIGH, columns += WIDE) {
    const lanes left = *(const lanes *)columns, right = *(const lanes *)(columns + LANES);
#pragma GCC unroll 6
    for (int r = 0; r < HIGH; r++) {
      sum[r][0] += rows[r] * left;
      sum[r][1] += rows[r] * right;
    }
  }
  for (int r = 0; r < HIGH; r++)
    for (int half = 0; half < 2; half++)
      *(lanes *)(to + r * WIDE + half * LANES) = sum[r][half];
}

/* Panels of `width` rows each, filled up with zeros; `by` and `along` are the strides of rows and
 * columns. */
static inline void pack(float *restrict to, const float *restrict from, word count,
                        const word width, word depth, word by, word along) {
  for (word at = 0; at < count; at += width, to += width * depth) {
    const float *start = from + at * by;
    const word here = count - at < width ? count - at : width;
    if (here == width && by == 1)
      for (word k = 0; k < depth; k++)
        for (word j = 0; j < width; j++) to[k * width + j] = start[j + k * along];
    else
      for (word k = 0; k < depth; k++)
        for (word j = 0; j < width; j++)
          to[k * width + j] = j < here ? start[j * by + k * along] : 0;
  }
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
    const word deep = depth - k < DEEP ? depth - k : DEEP;
    pack(high, left + k * by[1], rows, HIGH, deep, by[0], by[1]);
    pack(wide, right + k * by[2], rows, WIDE, deep, by[3], by[2]);
    for (word top = 0; top < rows; top += BLOCK) {
      const word bottom = top + BLOCK < rows ? top + BLOCK : rows;
      for (word j = 0; j < bottom; j += WIDE) {
        const word columns = rows - j < WIDE ? rows - j : WIDE;
        const word diagonal = j / HIGH * HIGH;
        for (word i = diagonal > top ? diagonal : top; i < bottom; i += HIGH) {
          tile(deep, high + i * deep, wide + j * deep, sums);
          for (word r = 0; r < HIGH && i + r < rows; r++) {
            float *to = out + (i + r) * rows + j;
            const float *own = sums + r * WIDE, *more = added + (i + r) * rows + j;
            if (k)
              for (word c = 0; c < columns; c++) to[c] += alpha * own[c];
            else if (beta)
              for (word c = 0; c < columns; c++) to[c] = beta * more[c] + alpha * own[c];
            else
              for (word c = 0; c < columns; c++) to[c] = alpha * own[c];
          }
        }
      }
    }
  }
  for (word i0 = 0; i0 < rows; i0 += WIDE)
    for (word j0 = 0; j0 <= i0; j0 += WIDE)
      for (word i = i0; i < i0 + WIDE && i < rows; i++)
        for (word j = j0; j < j0 + WIDE && j < i; j++) out[j * rows + i] = out[i * rows + j];
  free(high);
  free(wide);
}
