/* One stream of few words: products and the recurrence of an LSTM; adapt.c includes this file.
 *
 * A weight is read where it lies. Laying it out anew, as product.c and lstm.c do, takes longer than
 * a few words save. Each number is one sum in one order, whatever the number of threads.
 * Shape letters: T words, K width of what is multiplied, P rows of the weight, H hidden width;
 * gates are (T, 4H): i, f, g, o.
 */

#include "lstm_units.h"

#define FEW 5 /* words that are read at a time */

typedef float quad __attribute__((vector_size(16)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4)));

static inline float sum_of(vec v) {
  union {
    vec whole;
    quad of[LANES / 4];
  } x = {v};
  quad sum = x.of[0];
  for (int i = 1; i < LANES / 4; i++) sum += x.of[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* sums[t][r] = <x_t, w_r> for T words and R rows of a weight. K is at least LANES. The last vector
 * overlaps the one before it, and the numbers that both have count as 0 in it. */
#define DOTS(T, R)                                                                            \
  ALONE static void dots_##T##_##R(                                                           \
      int64_t K, const float *restrict x, const float *restrict w, int64_t w_row,             \
      float *restrict sums) {                                                                 \
    vec sum[T][R];                                                                            \
    for (int t = 0; t < T; t++)                                                               \
      for (int r = 0; r < R; r++) sum[t][r] = (vec){0};                                       \
    int64_t k = 0;                                                                            \
    for (; k + LANES <= K; k += LANES) {                                                      \
      vec row[R];                                                                             \
      for (int r = 0; r < R; r++) row[r] = *(const vec *)(w + r * w_row + k);                 \
      for (int t = 0; t < T; t++)                                                             \
        for (int r = 0; r < R; r++) sum[t][r] += *(const vec *)(x + t * K + k) * row[r];      \
    }                                                                                         \
    if (k < K) {                                                                              \
      ivec keep;                                                                              \
      for (int i = 0; i < LANES; i++) keep[i] = i >= k + LANES - K ? -1 : 0;                  \
      for (int r = 0; r < R; r++) {                                                           \
        vec row = (vec)((ivec) * (const vec *)(w + r * w_row + K - LANES) & keep);            \
        for (int t = 0; t < T; t++) sum[t][r] += *(const vec *)(x + t * K + K - LANES) * row; \
      }                                                                                       \
    }                                                                                         \
    for (int t = 0; t < T; t++)                                                               \
      for (int r = 0; r < R; r++) sums[t * R + r] = sum_of(sum[t][r]);                        \
  }
typedef void dots(int64_t, const float *restrict, const float *restrict, int64_t, float *restrict);
DOTS(1, 2) DOTS(2, 2) DOTS(3, 2) DOTS(4, 2) DOTS(5, 2) DOTS(1, 4)
static dots *const DOTS_OF_TWO[] = {NULL, dots_1_2, dots_2_2, dots_3_2, dots_4_2, dots_5_2};

/* out (T, P) = x (T, K) weight (P, K)^T, plus a bias (P) if there is one. K is at least LANES. */
EXPORT void narrow_product(
    int64_t T, int64_t K, int64_t P, int threads, const float *x, const float *weight,
    const float *bias, float *out) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && P * K > SMALL)
  for (int64_t pair = 0; pair < (P + 1) / 2; pair++) {
    float sums[2 * FEW];
    int64_t p = 2 * pair, rows = least(2, P - p);
    for (int64_t t = 0; t < T; t += FEW) {
      int64_t words = least(FEW, T - t);
      /* A row without a second one is read twice. */
      DOTS_OF_TWO[words](K, x + t * K, weight + p * K, rows == 2 ? K : 0, sums);
      for (int64_t i = 0; i < words; i++)
        for (int64_t r = 0; r < rows; r++)
          out[(t + i) * P + p + r] = sums[2 * i + r] + (bias ? bias[p + r] : 0.0f);
    }
  }
}

/* All steps of a layer, as lstm_forward in lstm.c. H is at least LANES. */
EXPORT void narrow_lstm(
    int64_t T, int64_t H, int threads, const float *weight, float *gates, const float *h,
    const float *c, float *cells, float *tanh_cells, float *out) {
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
    int64_t first = H * me / all, stop = H * (me + 1) / all;
    for (int64_t t = 0; t < T; t++) {
      float sums[4], *gates_G = gates + t * 4 * H;
      const float *before = t ? out + (t - 1) * H : h, *cell = t ? cells + (t - 1) * H : c;
#pragma omp barrier
      for (int64_t unit = first; unit < stop; unit++) {
        dots_1_4(H, before, weight + unit * H, H * H, sums);
        for (int gate = 0; gate < 4; gate++) gates_G[gate * H + unit] += sums[gate];
      }
      forward_units(stop - first, H, gates_G + first, cell + first, NULL, cells + t * H + first,
                    tanh_cells + t * H + first, out + t * H + first);
    }
  }
}

/* to += g[0] w_0 + ... of eight rows of a weight. */
ALONE static void add_eight(
    int64_t n, const float *g, const float *restrict w, int64_t w_row, float *restrict to) {
  float g_0 = g[0], g_1 = g[1], g_2 = g[2], g_3 = g[3];
  float g_4 = g[4], g_5 = g[5], g_6 = g[6], g_7 = g[7];
  const float *w_1 = w + w_row, *w_2 = w_1 + w_row, *w_3 = w_2 + w_row, *w_4 = w_3 + w_row;
  const float *w_5 = w_4 + w_row, *w_6 = w_5 + w_row, *w_7 = w_6 + w_row;
#pragma omp simd
  for (int64_t h = 0; h < n; h++)
    to[h] += (g_0 * w[h] + g_1 * w_1[h] + g_2 * w_2[h] + g_3 * w_3[h]) +
             (g_4 * w_4[h] + g_5 * w_5[h] + g_6 * w_6[h] + g_7 * w_7[h]);
}

ALONE static void add_one(int64_t n, float g, const float *restrict w, float *restrict to) {
#pragma omp simd
  for (int64_t h = 0; h < n; h++) to[h] += g * w[h];
}

/* All steps backward, as lstm_backward in lstm.c, but no gradient comes from later segments.
 * grad_cell (H) must be zero, and is overwritten; grad_hidden (H) is scratch. */
EXPORT void narrow_lstm_backward(
    int64_t T, int64_t H, int threads, const float *weight, const float *gates, const float *c,
    const float *cells, const float *tanh_cells, const float *grad_out, float *grad_hidden,
    float *grad_cell, float *grad_gates) {
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
    int64_t first = H * me / all, n = H * (me + 1) / all - first;
    float *dh = grad_hidden + first;
    for (int64_t t = T - 1; t >= 0; t--) {
      memcpy(dh, grad_out + t * H + first, n * sizeof(float));
#pragma omp barrier
      if (t < T - 1) {
        const float *g = grad_gates + (t + 1) * 4 * H, *w = weight + first;
        int64_t row = 0;
        for (; row + 8 <= 4 * H; row += 8) add_eight(n, g + row, w + row * H, H, dh);
        for (; row < 4 * H; row++) add_one(n, g[row], w + row * H, dh);
      }
      backward_units(n, H, gates + t * 4 * H + first, (t ? cells + (t - 1) * H : c) + first,
                     tanh_cells + t * H + first, NULL, NULL, dh, grad_cell + first,
                     grad_gates + t * 4 * H + first);
    }
  }
}
