/* The recurrence of an LSTM layer.
 *
 * tiedlm/networks/lstm_function.py has the same equations. It runs where there is no compiler, and
 * these kernels are tested against it. In float32 one call runs a whole window with its products
 * (lstm_forward, lstm_backward). With bfloat16 operands, and in short windows, a library makes the
 * products, and a call does the pointwise work of one step (lstm_step, lstm_step_backward).
 *
 * Shape letters: T steps, B streams, H hidden width; gates are (B, 4H): i, f, g, o.
 */

#include "kernels.h"
#include "lstm_units.h"
#include "product.c"

#define BLOCK_UNITS LANES /* hidden units whose gates are two panels: i f and g o */

/* What one thread computes at a time: a part of the streams of a block of hidden units. */
typedef struct {
  int64_t block, unit, units, part, parts, row, rows;
} item;

static inline item item_of(int64_t index, int64_t B, int64_t H, int64_t units) {
  int64_t parts = parts_of(B, ROWS), block = index / parts, part = index % parts;
  int64_t row = B * part / parts, unit = block * units;
  return (item){block, unit, least(units, H - unit), part, parts, row, B * (part + 1) / parts - row};
}

/* sums (rows, PANEL) = an item's rows of a (B, K) times a panel (K, PANEL). Meanwhile each part of
 * the streams fetches its share of the panel in the same place of the next block. */
static void multiply(const item *it, int64_t K, const float *a, const float *panel,
                     const float *next, float *sums) {
  int64_t step = PANEL / it->parts;
  BY_ROWS[it->rows](K, a + it->row * K, K, panel, sums, PANEL, 0, next + it->part * K * step, step);
}

/* The tensors of a layer; a pass leaves those that it does not use NULL. */
typedef struct {
  int64_t T, B, H;
  const float *packed, *mask, *recurrent, *c;
  float *gates, *cells, *tanh_cells, *out;
} layer;

static inline const float *at_row(const float *x, int64_t row) { return x ? x + row : NULL; }

/* The (B, H) matrix before step t: step t - 1 of steps, or first for t = 0. */
static inline const float *before_step(
    const layer *l, int64_t t, const float *steps, const float *first) {
  return t ? steps + (t - 1) * l->B * l->H : first;
}

/* Fetch n numbers, at most two vectors, into the cache while a product is made. */
static inline void fetch(const float *x, int64_t n) {
  for (int64_t at = 0; at < n; at += 16) __builtin_prefetch(x + at, 1, 3);
  __builtin_prefetch(x + n - 1, 1, 3);
}

static void forward_item(const layer *l, item it, int64_t t) {
  int64_t B = l->B, H = l->H, size = H * PANEL;
  float sums[2][ROWS * PANEL];
  const float *panel = l->packed + it.block * 2 * size;
  const float *h = before_step(l, t, l->out, l->recurrent);
  for (int64_t r = 0; r < it.rows; r++) {
    int64_t row = t * B + it.row + r;
    for (int gate = 0; gate < 4; gate++)
      fetch(l->gates + row * 4 * H + gate * H + it.unit, it.units);
    fetch(l->cells + row * H + it.unit, it.units);
    fetch(l->tanh_cells + row * H + it.unit, it.units);
    fetch(l->out + row * H + it.unit, it.units);
  }
  for (int half = 0; half < 2; half++, panel += size)
    multiply(&it, H, h, panel, panel + 2 * size, sums[half]);
  for (int64_t r = 0; r < it.rows; r++) {
    int64_t at = (it.row + r) * H + it.unit, now = t * B * H + at;
    float *gates = l->gates + (t * B + it.row + r) * 4 * H + it.unit;
    for (int gate = 0; gate < 4; gate++)
      add_row(gates + gate * H, sums[gate / 2] + r * PANEL + gate % 2 * LANES, F32, 0, it.units);
    const float *before = before_step(l, t, l->cells, l->c) + at, *mask = at_row(l->mask, at);
    float *cell = l->cells + now, *tanh_cell = l->tanh_cells + now, *out = l->out + now;
    forward_units(it.units, H, gates, before, mask, cell, tanh_cell, out);
  }
}

/* Lay the weight out for forward_item: for each block of units its gates' rows i f, then g o,
 * column by column. */
static void pack_forward(int64_t H, int64_t block, const float *weight, float *packed) {
  for (int column = 0; column < 2 * PANEL; column++) {
    int64_t unit = block * BLOCK_UNITS + column % LANES, gate = column / LANES;
    float *to = packed + (block * 2 + column / PANEL) * H * PANEL + column % PANEL;
    const float *from = weight + (gate * H + unit) * H;
    for (int64_t k = 0; k < H; k++) to[k * PANEL] = unit < H ? from[k] : 0;
  }
}

/* All steps of a layer. gates (T, B, 4H) hold x W^T + b, and become i, f, g, o. recurrent (B, H)
 * is the masked hidden state before the first step; out is o tanh(cell) mask. packed is room for
 * the weight (4H, H) laid out anew: 4H numbers for each of H rounded up to PANEL. */
EXPORT void lstm_forward(
    int64_t T, int64_t B, int64_t H, int threads, const float *weight, float *packed, float *gates,
    const float *recurrent, const float *c, const float *mask, float *cells, float *tanh_cells,
    float *out) {
  const layer l = {T, B, H, packed, mask, recurrent, c, gates, cells, tanh_cells, out};
  int64_t blocks = parts_of(H, BLOCK_UNITS), items = blocks * parts_of(B, ROWS);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    int me = omp_get_thread_num(), all = omp_get_num_threads();
    for (int64_t block = blocks * me / all; block < blocks * (me + 1) / all; block++)
      pack_forward(H, block, weight, packed);
    for (int64_t t = 0; t < T; t++) {
#pragma omp barrier
      for (int64_t index = items * me / all; index < items * (me + 1) / all; index++)
        forward_item(&l, item_of(index, B, H, BLOCK_UNITS), t);
    }
  }
}

static void backward_item(
    const layer *l, item it, int64_t t, const float *grad_out, const float *grad_last,
    float *grad_cell, float *grad_gates) {
  int64_t B = l->B, H = l->H, size = 4 * H * PANEL;
  float sums[ROWS * PANEL] = {0};
  const float *panel = l->packed + it.block * size;
  for (int64_t r = 0; r < it.rows; r++) {
    int64_t row = t * B + it.row + r;
    for (int gate = 0; gate < 4; gate++) {
      fetch(l->gates + row * 4 * H + gate * H + it.unit, it.units);
      fetch(grad_gates + row * 4 * H + gate * H + it.unit, it.units);
    }
    fetch(before_step(l, t, l->cells, l->c) + (it.row + r) * H + it.unit, it.units);
    fetch(l->tanh_cells + row * H + it.unit, it.units);
    fetch(grad_out + row * H + it.unit, it.units);
  }
  if (t < l->T - 1)
    multiply(&it, 4 * H, grad_gates + (t + 1) * B * 4 * H, panel, panel + size, sums);
  for (int64_t r = 0; r < it.rows; r++) {
    int64_t at = (it.row + r) * H + it.unit, now = t * B * H + at;
    int64_t gates_at = (t * B + it.row + r) * 4 * H + it.unit;
    float *dh = sums + r * PANEL;
    add_row(dh, grad_out + now, F32, 0, it.units);
    const float *gates = l->gates + gates_at, *before = before_step(l, t, l->cells, l->c) + at;
    const float *tanh_cell = l->tanh_cells + now, *mask = at_row(l->mask, at);
    const float *last = t == l->T - 1 ? grad_last + at : NULL;
    float *dc = grad_cell + at, *grad = grad_gates + gates_at;
    backward_units(it.units, H, gates, before, tanh_cell, mask, last, dh, dc, grad);
  }
}

/* Lay the weight out for backward_item: PANEL columns of all its rows, row by row. */
static void pack_backward(int64_t H, int64_t block, const float *weight, float *packed) {
  int64_t first = block * PANEL, n = least(PANEL, H - first);
  float *to = packed + block * 4 * H * PANEL;
  for (int64_t k = 0; k < 4 * H; k++) {
    for (int64_t h = 0; h < PANEL; h++) to[k * PANEL + h] = h < n ? weight[k * H + first + h] : 0;
  }
}

/* All steps backward. grad_out (T, B, H) is the gradient of the masked outputs. grad_last (B, H) is
 * the gradient of the last unmasked output. grad_cell is d(last cell), and becomes d(c). grad_gates
 * becomes d(gate inputs). packed is as for lstm_forward. */
EXPORT void lstm_backward(
    int64_t T, int64_t B, int64_t H, int threads, const float *weight, float *packed, float *gates,
    const float *c, const float *mask, float *cells, float *tanh_cells, const float *grad_out,
    const float *grad_last, float *grad_cell, float *grad_gates) {
  const layer l = {T, B, H, packed, mask, NULL, c, gates, cells, tanh_cells, NULL};
  int64_t blocks = parts_of(H, PANEL), items = blocks * parts_of(B, ROWS);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    int me = omp_get_thread_num(), all = omp_get_num_threads();
    for (int64_t block = blocks * me / all; block < blocks * (me + 1) / all; block++)
      pack_backward(H, block, weight, packed);
    for (int64_t t = T - 1; t >= 0; t--) {
#pragma omp barrier
      for (int64_t index = items * me / all; index < items * (me + 1) / all; index++)
        backward_item(&l, item_of(index, B, H, PANEL), t, grad_out, grad_last, grad_cell,
                      grad_gates);
    }
  }
}

/* A step of an LSTM layer. gates (B, 4H) hold x W^T + b. The product h U^T is added, and they
 * become i, f, g, o. out = o tanh(cell) mask, and out_low the same in bfloat16 if it is given. */
EXPORT void lstm_step(
    int64_t B, int64_t H, int threads, float *gates, const void *product, int type, const float *c,
    const float *mask, float *cell, float *tanh_cell, float *out, uint16_t *out_low) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && B * H * 4 > SMALL)
  for (int64_t b = 0; b < B; b++) {
    float *gates_G = gates + b * 4 * H, *out_H = out + b * H;
    add_row(gates_G, product, type, b, 4 * H);
    forward_units(H, H, gates_G, c + b * H, at_row(mask, b * H), cell + b * H, tanh_cell + b * H,
                  out_H);
    if (out_low) write_block(out_low + b * H, BF16, 0, H, out_H);
  }
}

/* A step backward. grad_hidden (B, H) is the gradient of the masked output without the product
 * d(gates of the next step) U, which is added here; it is overwritten. grad_last is the gradient of
 * the unmasked output, or NULL. grad_cell is d(cell), and becomes d(c). grad_gates becomes
 * d(gate inputs), and grad_low the same in bfloat16 if it is given. */
EXPORT void lstm_step_backward(
    int64_t B, int64_t H, int threads, const float *gates, const float *c, const float *tanh_cell,
    const float *mask, float *grad_hidden, const void *product, int type, const float *grad_last,
    float *grad_cell, float *grad_gates, uint16_t *grad_low) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && B * H * 4 > SMALL)
  for (int64_t b = 0; b < B; b++) {
    float *gates_G = grad_gates + b * 4 * H;
    add_row(grad_hidden + b * H, product, type, b, H);
    backward_units(H, H, gates + b * 4 * H, c + b * H, tanh_cell + b * H, at_row(mask, b * H),
                   at_row(grad_last, b * H), grad_hidden + b * H, grad_cell + b * H, gates_G);
    if (grad_low) write_block(grad_low + b * 4 * H, BF16, 0, 4 * H, gates_G);
  }
}
