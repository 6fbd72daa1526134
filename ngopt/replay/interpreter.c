/* Runs instructions, which are words of 64 bits, on strided memory.
 *
 * In front of this text stand MOST, the largest number of dimensions, and the macros POINTWISE_1,
 * POINTWISE_2 and POINTWISE_3, which list the functions of one, two and three numbers. An operand is
 * a base, an offset in bytes, and a stride for each dimension, in entries.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h>

typedef int64_t word;
typedef uint16_t bfloat;
typedef void (*row)(word n, char *const *at, const word *by, double x, double y);
typedef void (*loop)(word rows, word columns, void **inputs, void **outputs);

static double number(word bits) {
  double found;
  memcpy(&found, &bits, sizeof found);
  return found;
}

/* One row: `by` are the strides of the result and of the operands within it. */
#define ONE(NAME, T, EXPRESSION)                                                     \
  static void NAME##_##T(word n, char *const *at, const word *by, double dx, double dy) { \
    const T x = (T)dx, y = (T)dy;                                                    \
    T *o = (T *)at[0];                                                               \
    const T *pa = (const T *)at[1];                                                  \
    const word so = by[0], sa = by[1];                                               \
    (void)x, (void)y;                                                                \
    if (so == 1 && sa == 1) {                                                        \
      _Pragma("GCC ivdep") for (word i = 0; i < n; i++) {                            \
        const T a = pa[i];                                                           \
        o[i] = (T)(EXPRESSION);                                                      \
      }                                                                              \
    } else {                                                                         \
      for (word i = 0; i < n; i++) {                                                 \
        const T a = pa[i * sa];                                                      \
        o[i * so] = (T)(EXPRESSION);                                                 \
      }                                                                              \
    }                                                                                \
  }

#define TWO(NAME, T, EXPRESSION)                                                     \
  static void NAME##_##T(word n, char *const *at, const word *by, double dx, double dy) { \
    const T x = (T)dx, y = (T)dy;                                                    \
    T *o = (T *)at[0];                                                               \
    const T *pa = (const T *)at[1], *pb = (const T *)at[2];                          \
    const word so = by[0], sa = by[1], sb = by[2];                                   \
    (void)x, (void)y;                                                                \
    if (so == 1 && sa == 1 && sb == 1) {                                             \
      _Pragma("GCC ivdep") for (word i = 0; i < n; i++) {                            \
        const T a = pa[i], b = pb[i];                                                \
        o[i] = (T)(EXPRESSION);                                                      \
      }                                                                              \
    } else if (so == 1 && sa == 1 && sb == 0) {                                      \
      const T b = pb[0];                                                             \
      _Pragma("GCC ivdep") for (word i = 0; i < n; i++) {                            \
        const T a = pa[i];                                                           \
        o[i] = (T)(EXPRESSION);                                                      \
      }                                                                              \
    } else {                                                                         \
      for (word i = 0; i < n; i++) {                                                 \
        const T a = pa[i * sa], b = pb[i * sb];                                      \
        o[i * so] = (T)(EXPRESSION);                                                 \
      }                                                                              \
    }                                                                                \
  }

#define THREE(NAME, T, EXPRESSION)                                                   \
  static void NAME##_##T(word n, char *const *at, const word *by, double dx, double dy) { \
    const T x = (T)dx, y = (T)dy;                                                    \
    T *o = (T *)at[0];                                                               \
    const T *pa = (const T *)at[1], *pb = (const T *)at[2], *pc = (const T *)at[3];  \
    const word so = by[0], sa = by[1], sb = by[2], sc = by[3];                       \
    (void)x, (void)y;                                                                \
    if (so == 1 && sa == 1 && sb == 1 && sc == 1) {                                  \
      _Pragma("GCC ivdep") for (word i = 0; i < n; i++) {                            \
        const T a = pa[i], b = pb[i], c = pc[i];                                     \
        o[i] = (T)(EXPRESSION);                                                      \
      }                                                                              \
    } else {                                                                         \
      for (word i = 0; i < n; i++) {                                                 \
        const T a = pa[i * sa], b = pb[i * sb], c = pc[i * sc];                      \
        o[i * so] = (T)(EXPRESSION);                                                 \
      }                                                                              \
    }                                                                                \
  }

#define ONE_BOTH(NAME, EXPRESSION) ONE(NAME, float, EXPRESSION) ONE(NAME, double, EXPRESSION)
#define TWO_BOTH(NAME, EXPRESSION) TWO(NAME, float, EXPRESSION) TWO(NAME, double, EXPRESSION)
#define THREE_BOTH(NAME, EXPRESSION) THREE(NAME, float, EXPRESSION) THREE(NAME, double, EXPRESSION)
POINTWISE_1(ONE_BOTH)
POINTWISE_2(TWO_BOTH)
POINTWISE_3(THREE_BOTH)

/* Conversions, by the types that are stored. */
static inline double widened(bfloat value) {
  const uint32_t bits = (uint32_t)value << 16;
  float found;
  memcpy(&found, &bits, sizeof found);
  return found;
}

static inline bfloat narrowed(double value) {
  const float single = (float)value;
  uint32_t bits;
  memcpy(&bits, &single, sizeof bits);
  if (single != single) return 0x7fc0;
  return (bfloat)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16); /* to the nearest, ties to even */
}

#define SAME(VALUE) (VALUE)
#define CONVERT(FROM, LOAD, TO, STORE)                                                \
  static void FROM##_to_##TO(word n, char *const *at, const word *by, double x, double y) { \
    TO *o = (TO *)at[0];                                                              \
    const FROM *a = (const FROM *)at[1];                                              \
    const word so = by[0], sa = by[1];                                                \
    (void)x, (void)y;                                                                 \
    if (so == 1 && sa == 1)                                                           \
      for (word i = 0; i < n; i++) o[i] = (TO)STORE(LOAD(a[i]));                      \
    else                                                                              \
      for (word i = 0; i < n; i++) o[i * so] = (TO)STORE(LOAD(a[i * sa]));            \
  }
#define CONVERT_FROM(FROM, LOAD)        \
  CONVERT(FROM, LOAD, float, SAME)      \
  CONVERT(FROM, LOAD, double, SAME)     \
  CONVERT(FROM, LOAD, int64_t, SAME)    \
  CONVERT(FROM, LOAD, bfloat, narrowed)
CONVERT_FROM(float, SAME)
CONVERT_FROM(double, SAME)
CONVERT_FROM(int64_t, SAME)
CONVERT_FROM(bfloat, widened)

#define ENTRY_BOTH(NAME, EXPRESSION) NAME##_float, NAME##_double,
#define ENTRIES_FROM(FROM) FROM##_to_float, FROM##_to_double, FROM##_to_int64_t, FROM##_to_bfloat,
static const row ROWS[] = {
  POINTWISE_1(ENTRY_BOTH) POINTWISE_2(ENTRY_BOTH) POINTWISE_3(ENTRY_BOTH)
  ENTRIES_FROM(float) ENTRIES_FROM(double) ENTRIES_FROM(int64_t) ENTRIES_FROM(bfloat)
};

/* [row function, operands, x, y, size of entries of each, dims, sizes, operands] */
static void pointwise(const word *w, char **bases) {
  const row apply = ROWS[w[0]];
  const word count = w[1];
  const double x = number(w[2]), y = number(w[3]);
  const word *bytes = w + 4, dims = w[4 + count], *sizes = w + 5 + count;
  const word *operand = sizes + dims;
  const word inner = dims - 1;
  char *at[MOST];
  word by[MOST], index[MOST] = {0};
  for (word k = 0; k < count; k++) {
    const word *own = operand + k * (2 + dims);
    at[k] = bases[own[0]] + own[1];
    by[k] = own[2 + inner];
  }
  for (;;) {
    apply(sizes[inner], at, by, x, y);
    word d = inner - 1;
    for (; d >= 0; d--) {
      const int carried = ++index[d] == sizes[d];
      for (word k = 0; k < count; k++) {
        const word step = operand[k * (2 + dims) + 2 + d] * bytes[k];
        at[k] += carried ? step * (1 - sizes[d]) : step;
      }
      if (!carried) break;
      index[d] = 0;
    }
    if (d < 0) return;
  }
}

/* Sums in double precision, divided by a number:
 * [is double, divisor, kept dims, summed dims, sizes, base, offset, kept strides, base, offset,
 * strides]. The result is contiguous in steps of its own strides. */
#define SUMMED(T)                                                                    \
  static double summed_##T(const T *at, word dims, const word *sizes, const word *by) { \
    double sum = 0;                                                                  \
    if (dims == 0) return at[0];                                                     \
    if (dims == 1) {                                                                 \
      const word n = sizes[0], s = by[0];                                            \
      if (s == 1) {                                                                  \
        _Pragma("omp simd reduction(+ : sum)") for (word i = 0; i < n; i++) sum += at[i]; \
      } else {                                                                       \
        for (word i = 0; i < n; i++) sum += at[i * s];                               \
      }                                                                              \
    } else {                                                                         \
      for (word i = 0; i < sizes[0]; i++)                                            \
        sum += summed_##T(at + i * by[0], dims - 1, sizes + 1, by + 1);              \
    }                                                                                \
    return sum;                                                                      \
  }                                                                                  \
  static void reduce_##T(T *to, const T *from, word kept, word dims, const word *sizes, \
                         const word *to_by, const word *from_by, word inside, double divisor) { \
    if (!kept) {                                                                     \
      *to = (T)(summed_##T(from, inside, sizes + dims, from_by + dims) / divisor);   \
      return;                                                                        \
    }                                                                                \
    const word d = dims - kept;                                                      \
    for (word i = 0; i < sizes[d]; i++)                                              \
      reduce_##T(to + i * to_by[d], from + i * from_by[d], kept - 1, dims, sizes, to_by, \
                 from_by, inside, divisor);                                          \
  }
SUMMED(float)
SUMMED(double)

static void reduce(const word *w, char **bases) {
  const double divisor = number(w[1]);
  const word kept = w[2], inside = w[3];
  const word *sizes = w + 4, *to = sizes + kept + inside, *from = to + 2 + kept;
  char *o = bases[to[0]] + to[1], *a = bases[from[0]] + from[1];
  if (w[0])
    reduce_double((double *)o, (double *)a, kept, kept, sizes, to + 2, from + 2, inside, divisor);
  else
    reduce_float((float *)o, (float *)a, kept, kept, sizes, to + 2, from + 2, inside, divisor);
}

/* Products of matrices: [beta, alpha, batches, rows, columns, inner, then of the result, of both
 * factors and of what is added: base, offset, strides of batch, row and column]. */
#define TALL 4
#define BROAD 16
#define PRODUCT(T)                                                                   \
  static void product_##T(T *o, const T *a, const T *b, const T *c, const word *so,  \
                          const word *sa, const word *sb, const word *sc, word m, word n, \
                          word inner, T alpha, T beta, T *panel) {                   \
    for (word j0 = 0; j0 < n; j0 += BROAD) {                                         \
      const word wide = n - j0 < BROAD ? n - j0 : BROAD;                             \
      for (word k = 0; k < inner; k++)                                               \
        for (word j = 0; j < BROAD; j++)                                             \
          panel[k * BROAD + j] = j < wide ? b[k * sb[1] + (j0 + j) * sb[2]] : 0;     \
      for (word i0 = 0; i0 < m; i0 += TALL) {                                        \
        const word high = m - i0 < TALL ? m - i0 : TALL;                             \
        T sum[TALL][BROAD] = {{0}};                                                  \
        if (high == TALL) {                                                          \
          const T *a0 = a + i0 * sa[1], *a1 = a0 + sa[1], *a2 = a1 + sa[1], *a3 = a2 + sa[1]; \
          for (word k = 0; k < inner; k++) {                                         \
            const T *row = panel + k * BROAD;                                        \
            const T f0 = a0[k * sa[2]], f1 = a1[k * sa[2]], f2 = a2[k * sa[2]],      \
                    f3 = a3[k * sa[2]];                                              \
            _Pragma("omp simd") for (word j = 0; j < BROAD; j++) {                   \
              sum[0][j] += f0 * row[j];                                              \
              sum[1][j] += f1 * row[j];                                              \
              sum[2][j] += f2 * row[j];                                              \
              sum[3][j] += f3 * row[j];                                              \
            }                                                                        \
          }                                                                          \
        } else {                                                                     \
          for (word r = 0; r < high; r++)                                            \
            for (word k = 0; k < inner; k++) {                                       \
              const T factor = a[(i0 + r) * sa[1] + k * sa[2]], *row = panel + k * BROAD; \
              _Pragma("omp simd") for (word j = 0; j < BROAD; j++) sum[r][j] += factor * row[j]; \
            }                                                                        \
        }                                                                            \
        for (word r = 0; r < high; r++)                                              \
          for (word j = 0; j < wide; j++) {                                          \
            T *to = o + (i0 + r) * so[1] + (j0 + j) * so[2];                         \
            const T added = c ? beta * c[(i0 + r) * sc[1] + (j0 + j) * sc[2]] : 0;   \
            *to = added + alpha * sum[r][j];                                         \
          }                                                                          \
      }                                                                              \
    }                                                                                \
  }
PRODUCT(float)
PRODUCT(double)

static void product(const word *w, char **bases) {
  const double beta = number(w[1]), alpha = number(w[2]);
  const word batches = w[3], m = w[4], n = w[5], inner = w[6];
  const word *o = w + 7, *a = o + 5, *b = a + 5, *c = b + 5;
  const word size = w[0] ? sizeof(double) : sizeof(float);
  void *panel = malloc((size_t)(inner * BROAD * size));
  for (word batch = 0; panel && batch < batches; batch++) {
    char *po = bases[o[0]] + o[1] + batch * o[2] * size;
    char *pa = bases[a[0]] + a[1] + batch * a[2] * size;
    char *pb = bases[b[0]] + b[1] + batch * b[2] * size;
    char *pc = c[0] < 0 ? NULL : bases[c[0]] + c[1] + batch * c[2] * size;
    if (w[0])
      product_double((double *)po, (double *)pa, (double *)pb, (double *)pc, o + 2, a + 2, b + 2,
                     c + 2, m, n, inner, alpha, beta, panel);
    else
      product_float((float *)po, (float *)pa, (float *)pb, (float *)pc, o + 2, a + 2, b + 2, c + 2,
                    m, n, inner, (float)alpha, (float)beta, panel);
  }
  if (!panel) abort(); /* Nothing that is computed would be right. */
  free(panel);
}

/* A loop compiled elsewhere: [pointer, rows, columns, inputs, outputs, base and offset of each]. */
static void launch(const word *w, char **bases) {
  const word inputs = w[3], outputs = w[4], *operand = w + 5;
  void *pointers[inputs + outputs];
  for (word k = 0; k < inputs + outputs; k++)
    pointers[k] = bases[operand[2 * k]] + operand[2 * k + 1];
  ((loop)(intptr_t)w[0])(w[1], w[2], pointers, pointers + inputs);
}

/* Each instruction is [code, number of words, ...]. */
void run(int64_t from, int64_t to, void *words, void *bases) {
  const word *w = (const word *)words + from, *end = (const word *)words + to;
  for (; w < end; w += w[1]) {
    switch (w[0]) {
      case 0: pointwise(w + 2, bases); break;
      case 1: reduce(w + 2, bases); break;
      case 2: product(w + 2, bases); break;
      case 3: launch(w + 2, bases); break;
    }
  }
}
