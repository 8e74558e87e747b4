/* The update of dynamic evaluation; kernels.c includes this file.
 *
 * w += min(decay rms, 1) (w0 - w) - lr / (rms + epsilon) g, in one pass over the numbers. The
 * gradient g is a matrix (V, H), or left^T right of T rows, which is never written to memory.
 * Without rms the two factors are decay and lr. Each number is one sum in one order, whatever the
 * number of threads. */

/* The part of a row of left^T right: the sum over t of left[t] right[t]. */
ALONE static void product_of(
    int64_t T, const float *restrict left, int64_t V, const float *restrict right, int64_t H,
    int64_t n, float *restrict out) {
  for (int64_t h = 0; h < n; h++) out[h] = 0;
  for (int64_t t = 0; t < T; t++) {
    float factor = left[t * V];
    const float *restrict row = right + t * H;
#pragma omp simd
    for (int64_t h = 0; h < n; h++) out[h] += factor * row[h];
  }
}

ALONE static void step_of(
    int64_t n, const float *restrict g, const float *restrict trained, const float *restrict rms,
    float lr, float epsilon, float decay, float *restrict w) {
  if (rms) {
#pragma omp simd
    for (int64_t h = 0; h < n; h++) {
      float back = decay * rms[h] < 1.0f ? decay * rms[h] : 1.0f;
      w[h] += back * (trained[h] - w[h]) - lr / (rms[h] + epsilon) * g[h];
    }
  } else if (decay != 0.0f) {
#pragma omp simd
    for (int64_t h = 0; h < n; h++) w[h] += decay * (trained[h] - w[h]) - lr * g[h];
  } else {
#pragma omp simd
    for (int64_t h = 0; h < n; h++) w[h] -= lr * g[h];
  }
}

EXPORT void adapt(
    int64_t V, int64_t H, int64_t T, int threads, float lr, float epsilon, float decay,
    const float *left_TV, const float *right, const float *trained, const float *rms,
    float *weight) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t v = 0; v < V; v++) {
    float product[BLOCK];
    for (int64_t first = 0; first < H; first += BLOCK) {
      int64_t n = least(BLOCK, H - first), at = v * H + first;
      const float *g = right + at;
      if (left_TV) {
        product_of(T, left_TV + v, V, right + first, H, n, product);
        g = product;
      }
      step_of(n, g, trained + at, rms ? rms + at : NULL, lr, epsilon, decay, weight + at);
    }
  }
}
