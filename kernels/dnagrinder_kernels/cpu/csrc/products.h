// The two matrix products of attention, transposed (a row is a key or a feature, a lane is a query), for each instruction set.
//
//   score:  scores[key][lane]    = sum over features  keys[key][feature] * queries[feature][lane]
//   mix:    mixed[feature][lane] += sum over keys     values[key][feature] * weights[key][lane]
//
// PlainProducts multiply float32 (bf16 input is widened while packing); DotProducts multiply pairs of bf16 with vdpbf16ps;
// AmxProducts multiply bf16 tiles. All sum in float32. Rows beyond the last key are packed as zeros and get weight 0.
#pragma once
#include <cstddef>
#include <new>

#include "simd.h"

static const int BLOCK = 64;       // keys of a block
static const int LANES = 2 * W;    // queries of a strip
static const int MOST_WIDTH = 128;  // features of a head

template <class T> struct Aligned {  // allocator of whole cache lines
    typedef T value_type;
    Aligned() {}
    template <class U> Aligned(const Aligned<U> &) {}
    T *allocate(size_t n) { return (T *)::operator new(n * sizeof(T), std::align_val_t(64)); }
    void deallocate(T *p, size_t) { ::operator delete(p, std::align_val_t(64)); }
    template <class U> bool operator==(const Aligned<U> &) const { return true; }
    template <class U> bool operator!=(const Aligned<U> &) const { return false; }
};

// A sum of its own a call, added at the end: short sums round less than one that runs on over the whole sequence.
// c[ROWS][LANES] (+)= sum over steps of a(row, step) * b[step][LANES], a and b in 32-bit elements: a float or a pair of bf16.
template <class Multiply, bool ADD>
static inline void multiply_rows(const float *a, long row_stride, long step_stride, const float *b, long steps, float *c) {
    const int rows = Multiply::ROWS;
    Vec sums[rows][2];
    for (int r = 0; r < rows; r++)
        for (int x = 0; x < 2; x++) sums[r][x] = zero();
    for (long t = 0; t < steps; t++) {
        const Vec b0 = load(b + t * LANES), b1 = load(b + t * LANES + W);
        for (int r = 0; r < rows; r++) {
            const Vec x = all(a[r * row_stride + t * step_stride]);
            sums[r][0] = Multiply::add(x, b0, sums[r][0]);
            sums[r][1] = Multiply::add(x, b1, sums[r][1]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int x = 0; x < 2; x++) {
            float *place = c + r * LANES + x * W;
            store(place, ADD ? add(load(place), sums[r][x]) : sums[r][x]);
        }
}

// Columns [first, first + W) of LANES rows of d 32-bit elements, laid out as W rows of LANES; rows beyond the last are zero.
static inline void transpose_columns(const float *rows, long d, long first, float *out) {
    for (int x = 0; x < LANES; x += W) {
        Bits block[W];
        for (int r = 0; r < W; r++) block[r] = load_bits(rows + (x + r) * d + first);
        transpose(block);
        for (int c = 0; c < W; c++) store_bits(out + c * LANES + x, block[c]);
    }
}

// The sum of each of W rows of W floats.
static inline Vec sums_of_rows(const float *rows) {
    Bits block[W];
    for (int r = 0; r < W; r++) block[r] = load_bits(rows + r * W);
    transpose(block);
    Vec sums[4] = {zero(), zero(), zero(), zero()};
    for (int r = 0; r < W; r++) sums[r % 4] = add(sums[r % 4], floats_of(block[r]));
    return add(add(sums[0], sums[1]), add(sums[2], sums[3]));
}

// Lanes [0, W) of (d, LANES) sums times `share`, written as `count` rows of d features.
template <class T> static inline void write_columns(const float *sums, long d, Vec share, int count, T *out, long stride) {
    for (long c = 0; c < d; c += W) {
        Bits block[W];
        for (int y = 0; y < W; y++) block[y] = bits_of(mul(load(sums + (c + y) * LANES), share));
        transpose(block);
        for (int y = 0; y < count; y++) store(out + y * stride + c, floats_of(block[y]));
    }
}

#if defined(__AVX512BF16__)
// The same with half the transposing: two features are rounded and joined before.
template <> inline void write_columns<bf16>(const float *sums, long d, Vec share, int count, bf16 *out, long stride) {
    const __m512i alternate = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                               20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    for (long c = 0; c < d; c += 2 * W) {
        const long features = d - c < 2 * W ? d - c : 2 * W;   // 16 where d is an odd multiple of 16
        Bits block[W];
        for (int y = 0; y < W; y++) {
            block[y] = _mm512_setzero_si512();
            if (2 * y >= features) continue;
            const Vec low = mul(load(sums + (c + 2 * y) * LANES), share), high = mul(load(sums + (c + 2 * y + 1) * LANES), share);
            block[y] = _mm512_permutexvar_epi16(alternate, (__m512i)_mm512_cvtne2ps_pbh(high, low));
        }
        transpose(block);
        if (features == 2 * W)
            for (int y = 0; y < count; y++) store_bits(out + y * stride + c, block[y]);
        else
            for (int y = 0; y < count; y++) _mm256_storeu_si256((__m256i *)(out + y * stride + c), _mm512_castsi512_si256(block[y]));
    }
}
#endif

struct MultiplyFloats {
#if defined(__AVX512F__)
    static const int ROWS = 8;  // 16 sums in 32 registers
#else
    static const int ROWS = 4;  // 8 sums in 16 registers
#endif
    static inline Vec add(Vec a, Vec b, Vec c) { return fma(a, b, c); }
};

struct PlainProducts {
    typedef float Stored;
    typedef float Weight;
    static const bool EXACT = true;
    struct Session {
        Session() {}
    };

    template <class T> static void pack_keys(const T *rows, long stride, int count, long d, float *out) {
        for (int r = 0; r < BLOCK; r++)
            for (long c = 0; c < d; c += W) store(out + r * d + c, r < count ? load(rows + r * stride + c) : zero());
    }
    template <class T> static void pack_values(const T *rows, long stride, int count, long d, float *out) {
        pack_keys(rows, stride, count, d, out);
    }
    template <class T> static void pack_queries(const T *rows, long stride, int count, long d, float *out) {
        alignas(64) float straight[LANES * MOST_WIDTH];
        for (int r = 0; r < LANES; r++)
            for (long c = 0; c < d; c += W) store(straight + r * d + c, r < count ? load(rows + r * stride + c) : zero());
        for (long c = 0; c < d; c += W) transpose_columns(straight, d, c, out + c * LANES);
    }
    static void score(const float *keys, const float *queries, long d, float *scores) {
        const long half = d / 2;  // in two sums, each of which rounds less
        for (int r = 0; r < BLOCK; r += MultiplyFloats::ROWS) {
            multiply_rows<MultiplyFloats, false>(keys + r * d, d, 1, queries, half, scores + r * LANES);
            multiply_rows<MultiplyFloats, true>(keys + r * d + half, d, 1, queries + half * LANES, half, scores + r * LANES);
        }
    }
    // q . x of every query, and |q|^2, (LANES,).
    static void against(const float *queries, const float *x, long d, float *out) {
        Vec sums[2] = {zero(), zero()};
        for (long c = 0; c < d; c++)
            for (int y = 0; y < 2; y++) sums[y] = fma(load(queries + c * LANES + y * W), all(x[c]), sums[y]);
        store(out, sums[0]), store(out + W, sums[1]);
    }
    static void squares(const float *queries, long d, float *out) {
        Vec sums[2] = {zero(), zero()};
        for (long c = 0; c < d; c++)
            for (int y = 0; y < 2; y++) {
                const Vec q = load(queries + c * LANES + y * W);
                sums[y] = fma(q, q, sums[y]);
            }
        store(out, sums[0]), store(out + W, sums[1]);
    }
    template <class F> static void weigh(int keys, float *weights, Vec *sums, F weight) {
        for (int j = 0; j < keys; j++)
            for (int x = 0; x < 2; x++) {
                const Vec w = weight(j, x);
                sums[x] = add(sums[x], w);
                store(weights + j * LANES + x * W, w);
            }
        for (int j = keys; j < BLOCK; j++)
            for (int x = 0; x < 2; x++) store(weights + j * LANES + x * W, zero());
    }
    static void mix(const float *values, const float *weights, long d, float *mixed) {
        for (long c = 0; c < d; c += MultiplyFloats::ROWS)
            multiply_rows<MultiplyFloats, true>(values + c, 1, d, weights, BLOCK, mixed + c * LANES);
    }
};

#if defined(__AVX512BF16__)

struct MultiplyPairs {
    static const int ROWS = 8;
    static inline Vec add(Vec a, Vec b, Vec c) { return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b); }
};

// A row of d bf16, d a multiple of 16, or zeros.
static inline void copy_row(bf16 *out, const bf16 *row, long d) {
    for (long c = 0; c < d; c += 16)
        _mm256_storeu_si256((__m256i *)(out + c), row ? _mm256_loadu_si256((const __m256i *)(row + c)) : _mm256_setzero_si256());
}

struct DotProducts {
    typedef bf16 Stored;
    typedef bf16 Weight;
    static const bool EXACT = false;  // weights are rounded to 8 bits
    struct Session {
        Session() {}
    };

    static void pack_keys(const bf16 *rows, long stride, int count, long d, bf16 *out) {
        for (int r = 0; r < BLOCK; r++) copy_row(out + r * d, r < count ? rows + r * stride : nullptr, d);
    }
    // (BLOCK / 2, d, 2): the same feature of two keys side by side
    static void pack_values(const bf16 *rows, long stride, int count, long d, bf16 *out) {
        for (int r = 0; r < BLOCK; r += 2)
            for (long c = 0; c < d; c += W) {
                const __m256i none = _mm256_setzero_si256();
                const __m256i low = r < count ? _mm256_loadu_si256((const __m256i *)(rows + r * stride + c)) : none;
                const __m256i high = r + 1 < count ? _mm256_loadu_si256((const __m256i *)(rows + (r + 1) * stride + c)) : none;
                const Bits both = _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
                store_bits(out + r * d + 2 * c, both);
            }
    }
    // (d / 2, LANES, 2): two features of a query side by side
    static void pack_queries(const bf16 *rows, long stride, int count, long d, bf16 *out) {
        alignas(64) float straight[LANES * MOST_WIDTH / 2 + W];
        for (int r = 0; r < LANES; r++)
            copy_row((bf16 *)straight + r * d, r < count ? rows + r * stride : nullptr, d);
        for (long c = 0; c < d / 2; c += W) {
            if (d / 2 - c >= W) {
                transpose_columns(straight, d / 2, c, (float *)out + c * LANES);
                continue;
            }
            alignas(64) float columns[W * LANES];            // where d / 2 is no multiple of W the rest is not copied
            transpose_columns(straight, d / 2, c, columns);
            memcpy((float *)out + c * LANES, columns, sizeof(float) * LANES * (d / 2 - c));
        }
    }
    static void score(const bf16 *keys, const bf16 *queries, long d, float *scores) {
        for (int r = 0; r < BLOCK; r += MultiplyPairs::ROWS)
            multiply_rows<MultiplyPairs, false>((const float *)(keys + r * d), d / 2, 1, (const float *)queries, d / 2,
                                                scores + r * LANES);
    }
    // q . x of every query, and |q|^2, (LANES,).
    static void against(const bf16 *queries, const bf16 *x, long d, float *out) {
        Vec sums[2] = {zero(), zero()};
        for (long c = 0; c < d; c += 2)
            for (int y = 0; y < 2; y++) sums[y] = MultiplyPairs::add(pair(queries, c, y), all(((const float *)x)[c / 2]), sums[y]);
        store(out, sums[0]), store(out + W, sums[1]);
    }
    static void squares(const bf16 *queries, long d, float *out) {
        Vec sums[2] = {zero(), zero()};
        for (long c = 0; c < d; c += 2)
            for (int y = 0; y < 2; y++) sums[y] = MultiplyPairs::add(pair(queries, c, y), pair(queries, c, y), sums[y]);
        store(out, sums[0]), store(out + W, sums[1]);
    }
    static Vec pair(const bf16 *queries, long c, int y) { return load((const float *)queries + c / 2 * LANES + y * W); }
    // (BLOCK / 2, LANES, 2): the weights of two keys side by side
    template <class F> static void weigh(int keys, bf16 *weights, Vec *sums, F weight) {
        for (int j = 0; j < BLOCK; j += 2)
            for (int x = 0; x < 2; x++) {
                const Vec low = j < keys ? weight(j, x) : zero(), high = j + 1 < keys ? weight(j + 1, x) : zero();
                sums[x] = add(sums[x], add(low, high));
                store_bits(weights + j * LANES + 2 * x * W, pairs(low, high));
            }
    }
    static void mix(const bf16 *values, const bf16 *weights, long d, float *mixed) {
        for (long c = 0; c < d; c += MultiplyPairs::ROWS)
            multiply_rows<MultiplyPairs, true>((const float *)values + c, 1, d, (const float *)weights, BLOCK / 2,
                                               mixed + c * LANES);
    }
};

#endif

#if defined(__AMX_BF16__)

// Tiles are 16 rows of 64 bytes. The intrinsics do not tell the compiler which memory they touch, hence the fences.
struct AmxProducts : DotProducts {
    static inline void fence() { __asm__ volatile("" ::: "memory"); }

    struct Session {  // tile shapes of the thread for as long as it lives
        Session() {
            alignas(64) uint8_t shapes[64] = {1};
            for (int t = 0; t < 8; t++) shapes[16 + 2 * t] = 64, shapes[48 + t] = 16;
            fence();
            _tile_loadconfig(shapes);
        }
        ~Session() { _tile_release(); }
    };

    // (d, BLOCK): a feature of all keys side by side
    static void pack_values(const bf16 *rows, long stride, int count, long d, bf16 *out) {
        alignas(64) bf16 interleaved[BLOCK * MOST_WIDTH];
        DotProducts::pack_values(rows, stride, count, d, interleaved);
        const float *pair_rows = (const float *)interleaved;                 // (BLOCK / 2, d)
        for (int p = 0; p < BLOCK / 2; p += W)
            for (long c = 0; c < d; c += W) {
                Bits block[W];
                for (int r = 0; r < W; r++) block[r] = load_bits(pair_rows + (p + r) * d + c);
                transpose(block);
                for (int r = 0; r < W; r++) store_bits(out + (c + r) * BLOCK + 2 * p, block[r]);
            }
    }
    static void score(const bf16 *keys, const bf16 *queries, long d, float *scores) {
        fence();
        for (int r = 0; r < BLOCK; r += 32) {
            _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
            for (long c = 0; c < d; c += 32) {
                _tile_loadd(4, keys + r * d + c, 2 * d);
                _tile_loadd(5, keys + (r + 16) * d + c, 2 * d);
                _tile_loadd(6, queries + c * LANES, 4 * LANES);
                _tile_loadd(7, queries + c * LANES + 32, 4 * LANES);
                _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7); _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7);
            }
            _tile_stored(0, scores + r * LANES, 4 * LANES);
            _tile_stored(1, scores + r * LANES + 16, 4 * LANES);
            _tile_stored(2, scores + (r + 16) * LANES, 4 * LANES);
            _tile_stored(3, scores + (r + 16) * LANES + 16, 4 * LANES);
        }
        fence();
    }
    static void mix(const bf16 *values, const bf16 *weights, long d, float *mixed) {
        fence();
        for (long c = 0; c < d; c += 32) {
            float *high = mixed + c * LANES, *low = high + 16 * LANES;
            _tile_loadd(0, high, 4 * LANES); _tile_loadd(1, high + 16, 4 * LANES);
            _tile_loadd(2, low, 4 * LANES); _tile_loadd(3, low + 16, 4 * LANES);
            for (int j = 0; j < BLOCK; j += 32) {
                _tile_loadd(4, values + c * BLOCK + j, 2 * BLOCK);
                _tile_loadd(5, values + (c + 16) * BLOCK + j, 2 * BLOCK);
                _tile_loadd(6, weights + j * LANES, 4 * LANES);
                _tile_loadd(7, weights + j * LANES + 32, 4 * LANES);
                _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7); _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7);
            }
            _tile_stored(0, high, 4 * LANES); _tile_stored(1, high + 16, 4 * LANES);
            _tile_stored(2, low, 4 * LANES); _tile_stored(3, low + 16, 4 * LANES);
        }
        fence();
    }
};

#endif
