/* Functions and types that the kernels share: numbers, vectors, and the types of a matrix.
 *
 * losses.c, lstm.c (with product.c) and adapt.c (with narrow.c) are compiled side by side.
 */

#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { NONE = 0, F32 = 1, BF16 = 2 };
#define BLOCK 512 /* columns that are summed in float; the sums of blocks are added in double */
#define SMALL 16384 /* one thread deals faster than two with so many numbers */
/* Not inlined: GCC 12 does not vectorise some loops that it has inlined and specialised. */
#define ALONE __attribute__((noinline))
#define EXPORT __attribute__((visibility("default")))

typedef union {
  float f;
  uint32_t u;
  int32_t i;
} word;

static inline float as_float(int32_t i) { return ((word){.i = i}).f; }

static inline float from_bf16(uint16_t x) { return ((word){.u = (uint32_t)x << 16}).f; }

static inline uint16_t to_bf16(float x) {
  uint32_t u = ((word){.f = x}).u;
  uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  uint32_t nan = (u >> 16) | 0x40;
  return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

/* e^x to 2 units in the last place. Below -87.3 it is 1e-38 and not 0. NaN stays NaN. */
static inline float exp_(float x) {
  x = x > 88.3762f ? 88.3762f : x;
  x = x < -87.3365f ? -87.3365f : x;
  float n = rintf(x * 1.44269504088896341f);
  float r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * as_float(((int32_t)n + 127) << 23);
}

/* A factor as the sum of two floats. Rounded to one float, it would shift all products of a row in
 * the same direction. */
typedef struct {
  float high, low;
} factor;

static inline factor split(double x) {
  float high = (float)x;
  return (factor){high, (float)(x - (double)high)};
}

static inline float times(float x, float high, float low) { return x * low + x * high; }

static inline float sigmoid_(float x) { return 1.0f / (1.0f + exp_(-x)); }

static inline float tanh_(float x) {
  float a = fabsf(x), z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  float small = p * z * x + x;
  float large = copysignf(1.0f - 2.0f / (exp_(2.0f * a) + 1.0f), x);
  return a < 0.625f ? small : large;
}

/* Read columns [first, first + n) of a row into floats: the row itself where it is of floats. */
static inline const float *read_block(
    const void *row, int type, int64_t first, int64_t n, float *buffer) {
  if (type == F32) return (const float *)row + first;
  const uint16_t *x = (const uint16_t *)row + first;
#pragma omp simd
  for (int64_t v = 0; v < n; v++) buffer[v] = from_bf16(x[v]);
  return buffer;
}

static inline void write_block(void *row, int type, int64_t first, int64_t n, const float *x) {
  if (type == F32) {
    float *out = (float *)row + first;
    if (out != x) memcpy(out, x, n * sizeof(float));
    return;
  }
  uint16_t *out = (uint16_t *)row + first;
#pragma omp simd
  for (int64_t v = 0; v < n; v++) out[v] = to_bf16(x[v]);
}

static inline char *row_of(const void *matrix, int type, int64_t row, int64_t stride) {
  return (char *)matrix + row * stride * (type == F32 ? 4 : 2);
}

/* Add a row of n numbers of a product to x. With type NONE there is no product. */
static inline void add_row(float *restrict x, const void *product, int type, int64_t row,
                           int64_t n) {
  if (type == NONE) return;
  if (type == F32) {
    const float *p = (const float *)product + row * n;
#pragma omp simd
    for (int64_t h = 0; h < n; h++) x[h] += p[h];
  } else {
    const uint16_t *p = (const uint16_t *)product + row * n;
#pragma omp simd
    for (int64_t h = 0; h < n; h++) x[h] += from_bf16(p[h]);
  }
}

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static inline int64_t parts_of(int64_t n, int64_t most) { return (n + most - 1) / most; }

#ifdef __AVX512F__
#define LANES 16 /* numbers of a vector */
#else
#define LANES 8
#endif

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4)));

int omp_get_thread_num(void);
int omp_get_num_threads(void);
