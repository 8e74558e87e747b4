/* The pointwise work of an LSTM's hidden units, forward and backward. */

#pragma once

#include "kernels.h"

/* n units of a stream forward. The inputs of their gates become i, f, g, o, which are H numbers
 * apart. */
ALONE static void forward_units(
    int64_t n, int64_t H, float *gates, const float *restrict before, const float *restrict mask,
    float *restrict cell, float *restrict tanh_cell, float *restrict out) {
  float *restrict i = gates, *restrict f = i + H, *restrict g = f + H, *restrict o = g + H;
#pragma omp simd
  for (int64_t h = 0; h < n; h++) {
    float i_ = sigmoid_(i[h]), f_ = sigmoid_(f[h]), g_ = tanh_(g[h]), o_ = sigmoid_(o[h]);
    float c_ = f_ * before[h] + i_ * g_, t_ = tanh_(c_);
    i[h] = i_, f[h] = f_, g[h] = g_, o[h] = o_;
    cell[h] = c_, tanh_cell[h] = t_, out[h] = o_ * t_;
  }
  if (mask) {
#pragma omp simd
    for (int64_t h = 0; h < n; h++) out[h] *= mask[h];
  }
}

/* n units of a stream backward. dh is the gradient of their outputs, and is overwritten. dc is
 * d(cell), and becomes d(cell before). last is the gradient of the unmasked output, or NULL. */
ALONE static void backward_units(
    int64_t n, int64_t H, const float *gates, const float *restrict before,
    const float *restrict tanh_cell, const float *restrict mask, const float *restrict last,
    float *restrict dh, float *restrict dc, float *grad_gates) {
  const float *restrict i = gates, *restrict f = i + H, *restrict g = f + H, *restrict o = g + H;
  float *restrict di = grad_gates, *restrict df = di + H, *restrict dg = df + H,
        *restrict d_o = dg + H;
  if (mask) {
#pragma omp simd
    for (int64_t h = 0; h < n; h++) dh[h] *= mask[h];
  }
  if (last) add_row(dh, last, F32, 0, n);
#pragma omp simd
  for (int64_t h = 0; h < n; h++) {
    float t = tanh_cell[h], cell = dc[h] + dh[h] * o[h] * (1.0f - t * t);
    di[h] = cell * g[h] * i[h] * (1.0f - i[h]);
    df[h] = cell * before[h] * f[h] * (1.0f - f[h]);
    dg[h] = cell * i[h] * (1.0f - g[h] * g[h]);
    d_o[h] = dh[h] * t * o[h] * (1.0f - o[h]);
    dc[h] = cell * f[h];
  }
}
