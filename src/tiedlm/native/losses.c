/* The pointwise work of the losses, row by row while a cache holds the row.
 *
 * tiedlm/loss/backends/eager.py has the same equations. It runs where there is no compiler, and
 * these kernels are tested against it. Matrix products are made elsewhere.
 *
 * Shape letters: C tokens of a chunk, U distinct targets, V vocabulary, N rows of any kind.
 * Matrices are row-major and contiguous. A "stride" is the distance from row to row in numbers, for
 * the matrices that are not contiguous.
 *
 * Each row is computed by one thread in one order, so results do not depend on timing.
 */

#include "kernels.h"

/* The maximum of m and all x, or x + b if b is given. */
ALONE static float largest_of(const float *restrict x, const float *restrict b, int64_t n, float m) {
  if (b) {
#pragma omp simd reduction(max : m)
    for (int64_t v = 0; v < n; v++) m = x[v] + b[v] > m ? x[v] + b[v] : m;
  } else {
#pragma omp simd reduction(max : m)
    for (int64_t v = 0; v < n; v++) m = x[v] > m ? x[v] : m;
  }
  return m;
}

/* Write out = exp((x - shift) scale); return its sum. */
ALONE static float exp_of(
    const float *restrict x, float shift, float scale, int64_t n, float *restrict out) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t v = 0; v < n; v++) {
    float e = exp_((x[v] - shift) * scale);
    out[v] = e;
    sum += e;
  }
  return sum;
}

ALONE static float dot_of(const float *restrict x, const float *restrict y, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t v = 0; v < n; v++) sum += x[v] * y[v];
  return sum;
}

/* <x, y - shift>. */
ALONE static float shifted_dot_of(
    const float *restrict x, const float *restrict y, float shift, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t v = 0; v < n; v++) sum += x[v] * (y[v] - shift);
  return sum;
}

/* The soft target of a word: y~ = softmax(z / tau), lse = log mean exp(z / tau), and either
 * dot = <y~, z / tau> or residual = weight z / tau. */
ALONE static void soft_row(
    const void *z_V, int type, int64_t V, float inverse_tau, float weight, float *soft_V,
    float *lse, float *dot_of_word, float *residual_V) {
  float buffer[BLOCK], largest = -INFINITY;
  for (int64_t first = 0; first < V; first += BLOCK) {
    int64_t n = least(BLOCK, V - first);
    const float *z = read_block(z_V, type, first, n, buffer);
    largest = largest_of(z, NULL, n, largest);
  }
  double sum = 0, dot = 0;
  for (int64_t first = 0; first < V; first += BLOCK) {
    int64_t n = least(BLOCK, V - first);
    const float *z = read_block(z_V, type, first, n, buffer);
    float *y = soft_V + first;
    sum += exp_of(z, largest, inverse_tau, n, y);
    if (dot_of_word) dot += dot_of(y, z, n);
    if (residual_V) {
      float *r = residual_V + first, by = weight * inverse_tau;
#pragma omp simd
      for (int64_t v = 0; v < n; v++) r[v] = by * z[v];
    }
  }
  factor inverse = split(1 / sum);
#pragma omp simd
  for (int64_t v = 0; v < V; v++) soft_V[v] = times(soft_V[v], inverse.high, inverse.low);
  *lse = (float)((double)largest * inverse_tau + log(sum / (double)V));
  if (dot_of_word) *dot_of_word = (float)(dot / sum * inverse_tau);
}

/* The arguments that are the same for all tokens of a chunk. */
typedef struct {
  int64_t V;
  int type, same_weight;
  const float *bias_V;
  float inverse_tau, gamma;
} chunk;

/* The losses of a token, and G in grad_V if it is given; grad_V may be the scores.
 *
 * nll becomes J. With a soft target lse becomes log mean exp(z / tau). Then, without a residual
 * r_V, dot becomes <y~, z / tau>. With one, weight z / tau is subtracted from r_V, where the weight
 * counts as 1 if it is the same for all tokens. weight p is added to bias_grad_V. p_V and q_V are
 * scratch. */
ALONE static void token_row(
    const chunk *all, const void *z_V, int64_t target, float weight, const float *y_V, float *r_V,
    float *p_V, float *q_V, float *nll, float *lse, float *dot_of_token, void *grad_V,
    float *bias_grad_V) {
  int64_t V = all->V;
  int type = all->type;
  const float *bias_V = all->bias_V;
  float inverse_tau = all->inverse_tau, gamma = all->gamma;
  float buffer[BLOCK], logits[BLOCK], largest = -INFINITY, largest_z = -INFINITY;
  for (int64_t first = 0; first < V; first += BLOCK) {
    int64_t n = least(BLOCK, V - first);
    const float *z = read_block(z_V, type, first, n, buffer);
    largest_z = largest_of(z, NULL, n, largest_z);
    if (bias_V) largest = largest_of(z, bias_V + first, n, largest);
  }
  if (!bias_V) largest = largest_z;

  float by_z = (all->same_weight ? 1.0f : weight) * inverse_tau;
  double sum_p = 0, sum_q = 0, dot = 0;
  for (int64_t first = 0; first < V; first += BLOCK) {
    int64_t n = least(BLOCK, V - first);
    const float *z = read_block(z_V, type, first, n, buffer), *x = z;
    if (bias_V) {
      const float *b = bias_V + first;
#pragma omp simd
      for (int64_t v = 0; v < n; v++) logits[v] = z[v] + b[v];
      x = logits;
    }
    if (target >= first && target < first + n) *nll = largest - x[target - first];
    sum_p += exp_of(x, largest, 1.0f, n, p_V + first);
    if (!y_V) continue;
    sum_q += exp_of(z, largest_z, inverse_tau, n, q_V + first);
    if (r_V) {
      float *r = r_V + first;
#pragma omp simd
      for (int64_t v = 0; v < n; v++) r[v] -= by_z * z[v];
    } else {
      dot += dot_of(y_V + first, z, n);
    }
  }
  *nll += (float)log(sum_p);
  if (y_V) {
    *lse = (float)((double)largest_z * inverse_tau + log(sum_q / (double)V));
    if (!r_V) *dot_of_token = (float)(dot * inverse_tau);
  }
  factor by_p = split(1 / sum_p), by_q = split(y_V ? gamma / sum_q : 0);
  if (bias_grad_V) {
    float by = by_p.high * weight;
#pragma omp simd
    for (int64_t v = 0; v < V; v++) bias_grad_V[v] += by * p_V[v];
  }
  if (!grad_V) return;
  for (int64_t first = 0; first < V; first += BLOCK) {
    int64_t n = least(BLOCK, V - first);
    const float *p = p_V + first;
    float *g = type == F32 ? (float *)grad_V + first : buffer;
    if (y_V) {
      const float *q = q_V + first, *y = y_V + first;
#pragma omp simd
      for (int64_t v = 0; v < n; v++)
        g[v] = times(p[v], by_p.high, by_p.low) +
               (times(q[v], by_q.high, by_q.low) - gamma * y[v]);
    } else {
#pragma omp simd
      for (int64_t v = 0; v < n; v++) g[v] = times(p[v], by_p.high, by_p.low);
    }
    if (target >= first && target < first + n) g[target - first] -= 1.0f;
    write_block(grad_V, type, first, n, g);
  }
}

/* The gradient through a word's soft target: dot = <y~, r>, out = y~ (r - dot). out may be r. */
ALONE static void through_row(
    const float *r_V, const float *y_V, int64_t V, float *dot_of_word, void *out_V, int type) {
  double dot = 0;
  for (int64_t first = 0; first < V; first += BLOCK) {
    int64_t n = least(BLOCK, V - first);
    dot += dot_of(r_V + first, y_V + first, n);
  }
  float mean = (float)dot, buffer[BLOCK];
  *dot_of_word = mean;
  for (int64_t first = 0; first < V; first += BLOCK) {
    int64_t n = least(BLOCK, V - first);
    const float *r = r_V + first, *y = y_V + first;
#pragma omp simd
    for (int64_t v = 0; v < n; v++) buffer[v] = y[v] * (r[v] - mean);
    write_block(out_V, type, first, n, buffer);
  }
}

/* The first token at or after c that begins a word: the tokens of a word stay with one thread. */
static inline int64_t next_word(int64_t C, int64_t c, const int64_t *word_C) {
  while (c > 0 && c < C && word_C[c] == word_C[c - 1]) c++;
  return c;
}

/* The first token of a thread's part, if all parts have about as many tokens. With word_C a part
 * begins with a word. */
static inline int64_t part_of(int64_t C, int part, int threads, const int64_t *word_C) {
  int64_t start = C * part / threads;
  return word_C ? next_word(C, start, word_C) : start;
}

/* The same if all parts cost about as much, where a word costs as much as a token. */
static int64_t fair_part_of(int64_t C, int part, int threads, const int64_t *word_C) {
  int64_t c = 0, cost = C ? C + word_C[C - 1] + 1 : 0;
  while (c < C && (c + word_C[c]) * threads < cost * part) c++;
  return next_word(C, c, word_C);
}

/* The soft targets of distinct words: soft_row for each. */
EXPORT void soft_targets(
    int64_t U, int64_t V, int threads, const void *scores, int64_t stride, int type,
    float inverse_tau, const float *weight_U, float *soft, float *lse_U, float *dot_U,
    float *residual) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t u = 0; u < U; u++)
    soft_row(row_of(scores, type, u, stride), type, V, inverse_tau, weight_U ? weight_U[u] : 0,
             soft + u * V, lse_U + u, dot_U ? dot_U + u : NULL, residual ? residual + u * V : NULL);
}

/* The losses of a chunk's tokens, and G: token_row for each.
 *
 * With a residual the tokens must be sorted by word. grad has the scores' stride. bias_grad is
 * (threads, V); scratch is (threads, 2, V). */
EXPORT void tokens(
    int64_t C, int64_t V, int threads, const void *scores, int64_t stride, int type,
    const float *bias_V, const int64_t *target_C, const float *weight_C, int same_weight,
    const int64_t *word_C, const float *soft, float *residual, float inverse_tau, float gamma,
    float *nll_C, float *lse_C, float *dot_C, void *grad, float *bias_grad, float *scratch) {
  const chunk all = {V, type, same_weight, bias_V, inverse_tau, gamma};
  const int64_t *sorted_C = residual ? word_C : NULL;
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
  for (int part = 0; part < threads; part++) {
    int64_t stop = part_of(C, part + 1, threads, sorted_C);
    float *p_V = scratch + (int64_t)part * 2 * V;
    for (int64_t c = part_of(C, part, threads, sorted_C); c < stop; c++)
      token_row(&all, row_of(scores, type, c, stride), target_C[c], weight_C[c],
                soft ? soft + word_C[c] * V : NULL, residual ? residual + word_C[c] * V : NULL, p_V,
                p_V + V, nll_C + c, lse_C + c, dot_C + c,
                grad ? row_of(grad, type, c, stride) : NULL,
                bias_grad ? bias_grad + (int64_t)part * V : NULL);
  }
}

/* The gradient through soft targets: through_row for each. */
EXPORT void through_soft_targets(
    int64_t U, int64_t V, int threads, const float *residual, const float *soft, float *dot_U,
    void *out, int64_t stride, int type) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t u = 0; u < U; u++)
    through_row(residual + u * V, soft + u * V, V, dot_U + u, row_of(out, type, u, stride), type);
}

/* All three steps, word by word: a word's y~ and r stay in a cache while its tokens are computed.
 *
 * The tokens must be sorted by word, and every word must have a token. word_scores have the scores'
 * stride. If weight_U is given, word_scores become M, the gradient through the soft targets, and
 * dot_U becomes <y~, r>. If not, dot_U becomes <y~, z / tau> of the word. bias_grad is
 * (threads, V), and scratch is (threads, 4, V). */
EXPORT void words(
    int64_t C, int64_t V, int threads, const void *scores, int64_t stride, int type,
    void *word_scores, const float *bias_V, const int64_t *target_C, const float *weight_C,
    int same_weight, const int64_t *word_C, const float *weight_U, float inverse_tau, float gamma,
    float *nll_C, float *lse_C, float *dot_C, float *lse_U, float *dot_U, void *grad,
    float *bias_grad, float *scratch) {
  const chunk all = {V, type, same_weight, bias_V, inverse_tau, gamma};
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
  for (int part = 0; part < threads; part++) {
    int64_t c = fair_part_of(C, part, threads, word_C);
    int64_t stop = fair_part_of(C, part + 1, threads, word_C);
    float *p_V = scratch + (int64_t)part * 4 * V, *q_V = p_V + V, *y_V = q_V + V;
    float *r_V = weight_U ? y_V + V : NULL;
    while (c < stop) {
      int64_t u = word_C[c];
      void *word_V = row_of(word_scores, type, u, stride);
      soft_row(word_V, type, V, inverse_tau, r_V ? weight_U[u] : 0, y_V, lse_U + u,
               r_V ? NULL : dot_U + u, r_V);
      for (; c < stop && word_C[c] == u; c++)
        token_row(&all, row_of(scores, type, c, stride), target_C[c], weight_C[c], y_V, r_V, p_V,
                  q_V, nll_C + c, lse_C + c, dot_C + c,
                  grad ? row_of(grad, type, c, stride) : NULL,
                  bias_grad ? bias_grad + (int64_t)part * V : NULL);
      if (r_V) through_row(r_V, y_V, V, dot_U + u, word_V, type);
    }
  }
}

/* Count the x above a number. */
ALONE static int64_t count_above(const float *restrict x, float above, int64_t n) {
  int32_t count = 0;
#pragma omp simd reduction(+ : count)
  for (int64_t v = 0; v < n; v++) count += x[v] > above;
  return count;
}

/* Measures of the distributions softmax(scores), each with a target word: its surprisal -log p, the
 * entropy, and its rank. The rank is 1 plus the number of more probable words, or 0 if the target's
 * score is NaN. If starts_V is given, boundary becomes -log sum p starts. */
EXPORT void distributions(
    int64_t N, int64_t V, int threads, const float *scores, const int64_t *target_N,
    const float *starts_V, float *surprisal_N, float *entropy_N, int64_t *rank_N,
    float *boundary_N) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t row = 0; row < N; row++) {
    const float *z_V = scores + row * V;
    float target = z_V[target_N[row]], e[BLOCK];
    float largest = largest_of(z_V, NULL, V, -INFINITY);
    double sum = 0, dot = 0, starts = 0;
    int64_t above = 0;
    for (int64_t first = 0; first < V; first += BLOCK) {
      int64_t n = least(BLOCK, V - first);
      const float *z = z_V + first;
      sum += exp_of(z, largest, 1.0f, n, e);
      dot += shifted_dot_of(e, z, largest, n);
      if (starts_V) starts += dot_of(e, starts_V + first, n);
      above += count_above(z, target, n);
    }
    double log_sum = log(sum);
    surprisal_N[row] = (float)(log_sum - ((double)target - largest));
    entropy_N[row] = (float)(log_sum - dot / sum);
    rank_N[row] = isnan(target) ? 0 : 1 + above;
    if (boundary_N) boundary_N[row] = (float)(log_sum - log(starts));
  }
}
