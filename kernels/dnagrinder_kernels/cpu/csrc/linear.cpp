// x @ weight.T + bias in bf16 with AMX tiles, and what follows at once: the SwiGLU gate, and rounding into its place.
//
// A block is 32 x 32 sums: four tiles, fed by two tiles of rows and two of weights in every step of 32 features. Weights come
// as panels of 32 outputs, step after step (native.py packs them). Some panels at a time stay in the level-2 cache while all
// rows pass. Three things keep the tiles busy: while one block is multiplied the one before is written, a few rows a step;
// what comes next is prefetched; and every second panel takes its steps backwards, so that it starts on the rows the
// panel before has left in the level-1 cache. A row's bits depend on itself alone: sums know their panel, never their row.
#include "products.h"

#include <algorithm>
#include <vector>

#if defined(__AMX_BF16__)

namespace {

const int SIDE = 32;                       // rows and columns of a block, features of a step
const long TILE = 512;                     // bf16 of a tile; 256 sums
const long PANEL_BYTES = 768 << 10;        // of the panels that stay: with rows in and out they fit 2 MiB
const long FEWEST_GROUPS = 8;              // groups of 32 rows that a thread takes before columns are shared out, too

struct Call {                              // what Python hands over
    const bf16 *x;                         // (rows, features), rows x_row apart
    const bf16 *panels;                    // (width / 32, features / 32, 2, 16, 16, 2): pairs of features of 16 outputs
    const bf16 *bias;                      // (width,) or null
    bf16 *out;                             // (rows, width), or (rows, width / 2) gated; rows out_row apart
    long x_row, out_row, rows, features, width;
    int gated;                             // a panel is 16 gates and their 16 values
    int threads;
};

// Cache lines to fetch into level 2, some at a time.
struct Ahead {
    const char *next, *end;
    void fetch(long lines) {
        for (; lines > 0 && next < end; lines--, next += 64) _mm_prefetch(next, _MM_HINT_T1);
    }
};

// The sums of the last block and where they go.
template <bool GATED> struct Finished {
    alignas(64) float sums[4 * TILE / 2];  // rows 0-15 of the low and the high 16 columns, then rows 16-31
    bf16 *out = nullptr;
    long out_row;
    int row = 0, rows = 0;                 // written and to write
    Vec low_bias, high_bias;

    void write(int count) {
        for (const int end = std::min(rows, row + count); row < end; row++) {
            const float *place = sums + row / 16 * TILE + row % 16 * 16;
            const Vec low = add(load(place), low_bias), high = add(load(place + TILE / 2), high_bias);
            if (GATED) store(out + row * out_row, mul(silu<false>(low), high));
            else store_bits(out + row * out_row, (Bits)_mm512_cvtne2ps_pbh(high, low));
        }
    }
};

// One block into `finished`, which is written out meanwhile. Rows a are a_row apart; b is a panel.
template <bool GATED> void multiply(const bf16 *a, long a_row, const bf16 *b, long steps, bool backwards, Ahead &panels,
                                    long panel_lines, Ahead &rows, long row_lines, Finished<GATED> &finished) {
    const int share = (int)((SIDE + steps - 1) / steps);
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    for (long t = 0; t < steps; t++) {
        const long step = backwards ? steps - 1 - t : t;
        const bf16 *top = a + step * SIDE, *low = b + step * 2 * TILE;
        _tile_loadd(4, top, 2 * a_row);
        _tile_loadd(6, low, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, low + TILE, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, top + 16 * a_row, 2 * a_row);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        panels.fetch(panel_lines), rows.fetch(row_lines);
        finished.write(share);
    }
    AmxProducts::fence();
    float *sums = finished.sums;
    _tile_stored(0, sums, 64); _tile_stored(1, sums + TILE / 2, 64);
    _tile_stored(2, sums + TILE, 64); _tile_stored(3, sums + TILE + TILE / 2, 64);
    AmxProducts::fence();
}

// Groups [first_group, end_group) of 32 rows times panels [first_panel, end_panel).
template <bool GATED> void multiply_part(const Call &call, long first_group, long end_group, long first_panel, long end_panel) {
    const long steps = call.features / SIDE, panel_size = call.features * SIDE, out_columns = GATED ? SIDE / 2 : SIDE;
    const long together = std::max(1L, PANEL_BYTES / (2 * panel_size)), groups = std::max(1L, end_group - first_group);
    Finished<GATED> finished;
    finished.out_row = call.out_row;
    std::vector<bf16, Aligned<bf16>> last;  // the last rows, filled up with zeros
    for (long first = first_panel; first < end_panel; first += together) {
        const long end = std::min(end_panel, first + together);
        Ahead panels = {(const char *)(call.panels + end * panel_size),
                        (const char *)(call.panels + std::min(end_panel, end + together) * panel_size)};
        const long panel_lines = (SIDE + groups - 1) / groups;
        for (long group = first_group; group < end_group; group++) {
            const int count = (int)std::min((long)SIDE, call.rows - group * SIDE);
            const bf16 *a = call.x + group * SIDE * call.x_row;
            long a_row = call.x_row;
            Ahead rows = {(const char *)(a + SIDE * a_row), (const char *)(a + (group + 1 < end_group ? 2 : 1) * SIDE * a_row)};
            const long row_lines = (a_row + (end - first) * steps - 1) / ((end - first) * steps);
            if (count < SIDE) {
                if (last.empty()) {
                    last.assign(panel_size, 0);
                    for (int r = 0; r < count; r++) memcpy(&last[r * call.features], a + r * a_row, 2 * call.features);
                }
                a = last.data(), a_row = call.features;
            }
            for (long panel = first; panel < end; panel++) {
                multiply(a, a_row, call.panels + panel * panel_size, steps, panel & 1, panels, panel_lines, rows, row_lines,
                         finished);
                finished.out = call.out + group * SIDE * call.out_row + panel * out_columns;
                finished.row = 0, finished.rows = count;
                finished.low_bias = call.bias ? load(call.bias + panel * SIDE) : zero();
                finished.high_bias = call.bias ? load(call.bias + panel * SIDE + SIDE / 2) : zero();
            }
        }
    }
    finished.write(SIDE);
}

}  // namespace

extern "C" void dnagrinder_linear(const Call *call) {
    const long groups = (call->rows + SIDE - 1) / SIDE, panels = call->width / SIDE;
    const long down = std::max(1L, std::min((long)call->threads, groups / FEWEST_GROUPS));
    const long across = std::max(1L, std::min(call->threads / down, panels));
#pragma omp parallel for num_threads(call->threads) schedule(static)
    for (long part = 0; part < down * across; part++) {
        AmxProducts::Session session;
        const long i = part / across, j = part % across;
        const auto multiply_mine = call->gated ? multiply_part<true> : multiply_part<false>;
        multiply_mine(*call, groups * i / down, groups * (i + 1) / down, panels * j / across, panels * (j + 1) / across);
    }
}

#endif
