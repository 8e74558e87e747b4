/* The update of dynamic evaluation.
 *
 * w += min(decay rms, 1) (w0 - w) - lr / (rms + epsilon) g, in one pass over the numbers. The
 * gradient g is a matrix (V, H), or left^T right of T words, which is never written to memory.
 * Without rms the two factors are decay and lr. The same pass can compute back = left w with the
 * weights before the update: the gradient of the matrix that the weight was multiplied with.
 *
 * Each number is one sum in one order, whatever the number of threads.
 */

#include "kernels.h"
#include "narrow.c"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define TOGETHER 4 /* rows of the weight that are updated at a time; the words are read once */
#define PARTS 16   /* parts of the weight; each sums its own share of back */

/* The factors of TOGETHER rows for some words. */
typedef struct {
  float of[FEW][TOGETHER];
} factors;

/* Columns [0, n) of TOGETHER rows of the gradient: product (+)= left^T right, and back += left w.
 * A row of product is BLOCK numbers; what follows it in right and back is H. */
typedef void gather(
    int64_t n, int64_t H, int add, const factors *left, const float *restrict right,
    const float *w_0, const float *w_1, const float *w_2, const float *w_3,
    float *restrict product, float *restrict back);

#define WORD(T, t, BACK)                                                                      \
  if (T > t) {                                                                                \
    float x = right[t * H + h], l_0 = left->of[t][0], l_1 = left->of[t][1],                   \
          l_2 = left->of[t][2], l_3 = left->of[t][3];                                         \
    p_0 += l_0 * x, p_1 += l_1 * x, p_2 += l_2 * x, p_3 += l_3 * x;                           \
    if (BACK) back[t * H + h] += l_0 * w_0[h] + l_1 * w_1[h] + l_2 * w_2[h] + l_3 * w_3[h];   \
  }
#define GATHER(NAME, T, BACK)                                                                 \
  ALONE static void NAME##_##T(                                                               \
      int64_t n, int64_t H, int add, const factors *left, const float *restrict right,        \
      const float *w_0, const float *w_1, const float *w_2, const float *w_3,                 \
      float *restrict product, float *restrict back) {                                        \
    float *restrict to_0 = product, *restrict to_1 = product + BLOCK,                         \
                    *restrict to_2 = product + 2 * BLOCK, *restrict to_3 = product + 3 * BLOCK; \
    for (int r = 0; r < TOGETHER && !add; r++)                                                \
      memset(product + r * BLOCK, 0, n * sizeof(float));                                      \
    _Pragma("omp simd") for (int64_t h = 0; h < n; h++) {                                     \
      float p_0 = to_0[h], p_1 = to_1[h], p_2 = to_2[h], p_3 = to_3[h];                       \
      WORD(T, 0, BACK) WORD(T, 1, BACK) WORD(T, 2, BACK) WORD(T, 3, BACK) WORD(T, 4, BACK)    \
      to_0[h] = p_0, to_1[h] = p_1, to_2[h] = p_2, to_3[h] = p_3;                             \
    }                                                                                         \
  }
#define GATHERS(NAME, BACK)                                            \
  GATHER(NAME, 1, BACK) GATHER(NAME, 2, BACK) GATHER(NAME, 3, BACK)    \
  GATHER(NAME, 4, BACK) GATHER(NAME, 5, BACK)                          \
  static gather *const NAME[] = {NULL, NAME##_1, NAME##_2, NAME##_3, NAME##_4, NAME##_5};
GATHERS(gradient, 0)
GATHERS(gradient_and_back, 1)

ALONE static void step_of(
    int64_t n, const float *restrict g, const float *restrict trained, const float *restrict rms,
    float lr, float epsilon, float decay, float *restrict w) {
  if (rms) {
    int64_t h = 0;
#ifdef __AVX512F__
    const vec one = (vec){0} + 1.0f;
    for (; h + LANES <= n; h += LANES) {
      vec r = *(const vec *)(rms + h), now = *(const vec *)(w + h);
      vec size = r + epsilon, back = (vec)_mm512_min_ps((__m512)(decay * r), (__m512)one);
      vec inverse = (vec)_mm512_rcp14_ps((__m512)size); /* to 14 bits; a Newton step doubles them */
      inverse += inverse * (one - size * inverse);
      *(vec *)(w + h) = now + back * (*(const vec *)(trained + h) - now) -
                        lr * *(const vec *)(g + h) * inverse;
    }
#endif
#pragma omp simd
    for (int64_t i = h; i < n; i++) {
      float back = decay * rms[i] < 1.0f ? decay * rms[i] : 1.0f;
      w[i] += back * (trained[i] - w[i]) - lr * g[i] / (rms[i] + epsilon);
    }
  } else if (decay != 0.0f) {
#pragma omp simd
    for (int64_t h = 0; h < n; h++) w[h] += decay * (trained[h] - w[h]) - lr * g[h];
  } else {
#pragma omp simd
    for (int64_t h = 0; h < n; h++) w[h] -= lr * g[h];
  }
}

/* The arguments of an update that are the same for all its rows. */
typedef struct {
  int64_t V, H, T;
  float lr, epsilon, decay;
  const float *left_TV, *right, *trained, *rms;
  float *weight;
} update;

static inline void step_row(const update *u, const float *g, int64_t at, int64_t n) {
  step_of(n, g, u->trained + at, u->rms ? u->rms + at : NULL, u->lr, u->epsilon, u->decay,
          u->weight + at);
}

/* Rows [v, v + rows) of a low-rank update, columns [first, first + n). */
static void low_rank_rows(
    const update *u, int64_t v, int64_t rows, int64_t first, int64_t n, float *back_TH) {
  float product[TOGETHER * BLOCK];
  const float *w[TOGETHER];
  int64_t H = u->H;
  /* Where there are fewer rows, the first one stands in with factors of 0. */
  for (int64_t r = 0; r < TOGETHER; r++) w[r] = u->weight + (v + (r < rows ? r : 0)) * H + first;
  for (int64_t t = 0; t < u->T; t += FEW) {
    int64_t words = least(FEW, u->T - t);
    factors left;
    for (int64_t i = 0; i < words; i++)
      for (int64_t r = 0; r < TOGETHER; r++)
        left.of[i][r] = r < rows ? u->left_TV[(t + i) * u->V + v + r] : 0.0f;
    (back_TH ? gradient_and_back : gradient)[words](
        n, H, t > 0, &left, u->right + t * H + first, w[0], w[1], w[2], w[3], product,
        back_TH ? back_TH + t * H + first : NULL);
  }
  for (int64_t r = 0; r < rows; r++) step_row(u, product + r * BLOCK, (v + r) * H + first, n);
}

/* The update of a weight (V, H). left_TV is NULL if right is the gradient itself. back_TH may be
 * NULL; if not, partial is room for PARTS matrices of its size. */
EXPORT void adapt(
    int64_t V, int64_t H, int64_t T, int threads, float lr, float epsilon, float decay,
    const float *left_TV, const float *right, const float *trained, const float *rms,
    float *weight, float *back_TH, float *partial) {
  const update u = {V, H, T, lr, epsilon, decay, left_TV, right, trained, rms, weight};
#pragma omp parallel num_threads(threads) if (threads > 1 && V * H > SMALL)
  {
#pragma omp for schedule(static)
    for (int64_t part = 0; part < PARTS; part++) {
      int64_t groups = parts_of(V, TOGETHER);
      int64_t start = groups * part / PARTS * TOGETHER;
      int64_t stop = least(V, groups * (part + 1) / PARTS * TOGETHER);
      float *back = back_TH ? partial + part * T * H : NULL;
      if (back) memset(back, 0, T * H * sizeof(float));
      for (int64_t v = start; v < stop; v += TOGETHER) {
        int64_t rows = least(TOGETHER, stop - v);
        for (int64_t first = 0; first < H; first += BLOCK) {
          int64_t n = least(BLOCK, H - first);
          if (left_TV) {
            low_rank_rows(&u, v, rows, first, n, back);
            continue;
          }
          for (int64_t r = v; r < v + rows; r++) step_row(&u, right + r * H + first, r * H + first, n);
        }
      }
    }
    if (back_TH) {
#pragma omp for schedule(static)
      for (int64_t t = 0; t < T; t++) {
        float *restrict to = back_TH + t * H;
        memcpy(to, partial + t * H, H * sizeof(float));
        for (int64_t part = 1; part < PARTS; part++)
          add_row(to, partial + part * T * H, F32, t, H);
      }
    }
  }
}
