/* Matrix products in float32; lstm.c includes this file.
 *
 * A product is made of tiles: some rows of it times PANEL columns, whose sums stay in registers.
 * The right factor is laid out in panels of PANEL columns, row by row. Each number is one sum in
 * one order, whatever the number of threads.
 */

#ifdef __AVX512F__
#define ROWS 12 /* of a tile: as many pairs of vectors fit the registers */
#else
#define ROWS 6
#endif
#define PANEL (2 * LANES)
#define DEEP 704  /* rows of the panels that are laid out at a time, ... */
#define WIDE 1024 /* ... and their columns */
#define HIGH 72   /* rows of the left factor that a thread lays out at a time, for its L2 cache */

typedef void tile(int64_t, const float *restrict, int64_t, const float *restrict, float *restrict,
                  int64_t, int, const float *, int64_t);

/* Write a (rows, K) panel (K, PANEL) to out, or add it. Each sum is in the order of k, whatever the
 * number of rows. Number (r, k) of a is a[r ROW + k COLUMN]. For each k, step numbers of the next
 * panel are fetched into the cache. */
#define TILE(NAME, R, ROW, COLUMN)                                                            \
  static void NAME##_##R(int64_t K, const float *restrict a, int64_t a_row,                   \
                         const float *restrict panel, float *restrict out, int64_t out_row,   \
                         int add, const float *next, int64_t step) {                          \
    vec sum[R][2];                                                                            \
    for (int r = 0; r < R; r++) {                                                             \
      __builtin_prefetch(out + r * out_row, 1, 3);                                            \
      __builtin_prefetch(out + r * out_row + PANEL - 1, 1, 3);                                \
      sum[r][0] = sum[r][1] = (vec){0};                                                       \
    }                                                                                         \
    for (int64_t k = 0; k < K; k++) {                                                         \
      vec left = *(const vec *)(panel + k * PANEL);                                           \
      vec right = *(const vec *)(panel + k * PANEL + LANES);                                  \
      __builtin_prefetch(next + k * step, 0, 2);                                              \
      _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) {                                  \
        float x = a[r * ROW + k * COLUMN];                                                    \
        sum[r][0] += x * left;                                                                \
        sum[r][1] += x * right;                                                               \
      }                                                                                       \
    }                                                                                         \
    for (int r = 0; r < R; r++) {                                                             \
      vec *end = (vec *)(out + r * out_row);                                                  \
      end[0] = add ? end[0] + sum[r][0] : sum[r][0];                                          \
      end[1] = add ? end[1] + sum[r][1] : sum[r][1];                                          \
    }                                                                                         \
  }

#define SIX(NAME, ROW, COLUMN)                                                     \
  TILE(NAME, 1, ROW, COLUMN) TILE(NAME, 2, ROW, COLUMN) TILE(NAME, 3, ROW, COLUMN) \
  TILE(NAME, 4, ROW, COLUMN) TILE(NAME, 5, ROW, COLUMN) TILE(NAME, 6, ROW, COLUMN)
#define SIX_OF(NAME) NAME##_1, NAME##_2, NAME##_3, NAME##_4, NAME##_5, NAME##_6
#if ROWS == 12
#define TILES(NAME, ROW, COLUMN)                                                      \
  SIX(NAME, ROW, COLUMN)                                                              \
  TILE(NAME, 7, ROW, COLUMN) TILE(NAME, 8, ROW, COLUMN) TILE(NAME, 9, ROW, COLUMN)    \
  TILE(NAME, 10, ROW, COLUMN) TILE(NAME, 11, ROW, COLUMN) TILE(NAME, 12, ROW, COLUMN)
#define LIST(NAME) \
  {NULL, SIX_OF(NAME), NAME##_7, NAME##_8, NAME##_9, NAME##_10, NAME##_11, NAME##_12}
#else
#define TILES SIX
#define LIST(NAME) {NULL, SIX_OF(NAME)}
#endif

TILES(by_rows, a_row, 1)
TILES(packed, 1, ROWS)
static tile *const BY_ROWS[] = LIST(by_rows); /* a as it is, its rows contiguous */
static tile *const PACKED[] = LIST(packed);   /* a laid out by pack_left */

/* Lay out PANEL columns of b, of which n exist; the others become 0. */
static void pack_panel(int64_t K, int64_t n, const float *b, int64_t row, int64_t column, float *to) {
  for (int64_t k = 0; k < K; k++, b += row, to += PANEL) {
    if (n == PANEL && column == 1) {
      for (int c = 0; c < PANEL; c++) to[c] = b[c];
    } else if (n == PANEL) {
      for (int c = 0; c < PANEL; c++) to[c] = b[c * column];
    } else {
      for (int c = 0; c < PANEL; c++) to[c] = c < n ? b[c * column] : 0;
    }
  }
}

/* Lay out rows of a in tiles, each tile column by column. */
static void pack_left(int64_t rows, int64_t K, const float *a, int64_t row, int64_t column, float *to) {
  for (int64_t first = 0; first < rows; first += ROWS, to += ROWS * K) {
    int64_t n = least(ROWS, rows - first);
    const float *from = a + first * row;
    if (n == ROWS && row == 1) {
      for (int64_t k = 0; k < K; k++)
        for (int r = 0; r < ROWS; r++) to[k * ROWS + r] = from[k * column + r];
    } else if (n == ROWS && column == 1) {
      for (int64_t k = 0; k < K; k++)
        for (int r = 0; r < ROWS; r++) to[k * ROWS + r] = from[r * row + k];
    } else {
      for (int64_t k = 0; k < K; k++)
        for (int r = 0; r < n; r++) to[k * ROWS + r] = from[r * row + k * column];
    }
  }
}

/* Write left times panels to some rows and P columns of out, or add it. Both factors are laid out.
 * With a bias (P) each row starts from it; add must then be set. */
static void multiply_block(
    int64_t rows, int64_t K, int64_t P, const float *left, const float *panels, const float *bias,
    float *out, int64_t out_row, int add) {
  float edge[ROWS * PANEL];
  for (int64_t column = 0; column < P; column += PANEL, panels += K * PANEL) {
    int64_t width = least(PANEL, P - column);
    for (int64_t row = 0; row < rows; row += ROWS) {
      int64_t n = least(ROWS, rows - row);
      float *to = out + row * out_row + column;
      for (int64_t r = 0; bias && r < n; r++)
        memcpy(to + r * out_row, bias + column, width * sizeof(float));
      if (width == PANEL) {
        PACKED[n](K, left + row * K, 1, panels, to, out_row, add, panels, 0);
        continue;
      }
      PACKED[n](K, left + row * K, 1, panels, edge, PANEL, 0, panels, 0);
      for (int64_t r = 0; r < n; r++, to += out_row)
        for (int64_t c = 0; c < width; c++) to[c] = (add ? to[c] : 0) + edge[r * PANEL + c];
    }
  }
}

/* Write or add a (M, K) b (K, P) to out (M, P), or write it plus a bias (P). Factors have any
 * strides, rows of out are contiguous. */
EXPORT void product(
    int64_t M, int64_t K, int64_t P, int threads, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, const float *bias, float *out, int64_t out_row,
    int accumulate) {
  static _Thread_local float kept[DEEP * WIDE];
  float *panels = kept; /* shared by the threads of this call */
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    int64_t me = omp_get_thread_num(), all = omp_get_num_threads(), tiles = parts_of(M, ROWS);
    int64_t parts = parts_of(K, DEEP);
    int64_t start = tiles * me / all * ROWS, stop = least(M, tiles * (me + 1) / all * ROWS);
    float left[HIGH * DEEP];
    for (int64_t column = 0; column < P; column += WIDE) {
      int64_t width = least(WIDE, P - column), count = parts_of(width, PANEL);
      for (int64_t part = 0; part < parts; part++) {
        int64_t k = K * part / parts, n = K * (part + 1) / parts - k;
        for (int64_t panel = count * me / all; panel < count * (me + 1) / all; panel++) {
          int64_t first = column + panel * PANEL;
          pack_panel(n, least(PANEL, P - first), b + k * b_row + first * b_column, b_row, b_column,
                     panels + panel * n * PANEL);
        }
#pragma omp barrier
        for (int64_t row = start; row < stop; row += HIGH) {
          int64_t rows = least(HIGH, stop - row);
          const float *from = a + row * a_row + k * a_column;
          float *to = out + row * out_row + column;
          pack_left(rows, n, from, a_row, a_column, left);
          multiply_block(rows, n, width, left, panels, bias && !part ? bias + column : NULL, to,
                         out_row, accumulate || bias || part);
        }
#pragma omp barrier
      }
    }
  }
}
