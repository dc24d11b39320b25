// One register of floats, as wide as the instruction set that this build is for (AVX2 or AVX-512), and bf16 in and out of it.
//
// The build chooses by macros of the compiler: __AVX512F__, __AVX512BF16__, __AMX_BF16__, each with everything below it.
#pragma once
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

static inline float to_float(float x) { return x; }
static inline float to_float(bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

// Numbers below 2^-126 count as zero while it lives: weights that small change nothing and would cost 100 cycles each.
struct FlushDenormals {
    const unsigned before = _mm_getcsr();
    FlushDenormals() { _mm_setcsr(before | 0x8040); }
    ~FlushDenormals() { _mm_setcsr(before); }
};

#if defined(__AVX512F__)

static const int W = 16;  // floats in a register
typedef __m512 Vec;
typedef __m512i Bits;

static inline Vec zero() { return _mm512_setzero_ps(); }
static inline Vec all(float x) { return _mm512_set1_ps(x); }
static inline Vec load(const float *p) { return _mm512_loadu_ps(p); }
static inline void store(float *p, Vec x) { _mm512_storeu_ps(p, x); }
static inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
static inline Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
static inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
static inline Vec div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
static inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
static inline Vec abs(Vec a) { return _mm512_abs_ps(a); }
static inline float sum(Vec a) { return _mm512_reduce_add_ps(a); }
static inline bool all_less(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ) == 0xFFFF; }  // false on NaN
static inline bool all_equal(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ) == 0xFFFF; }
static inline Vec exponent(Vec a) { return _mm512_getexp_ps(a); }  // floor(log2 a) of a > 0
static inline Bits bits_of(Vec a) { return _mm512_castps_si512(a); }
static inline Vec floats_of(Bits a) { return _mm512_castsi512_ps(a); }
static inline Vec counting() { return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }

template <bool EXACT> static inline Vec exp2_polynomial(Vec r);

static inline Vec load(const bf16 *p) {
    return floats_of(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
#if defined(__AVX512BF16__)
static inline void store(bf16 *p, Vec x) { _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(x)); }
#else
static inline void store(bf16 *p, Vec x) {  // round to nearest, ties to even; NaN stays NaN
    Bits b = bits_of(x), odd = _mm512_and_si512(_mm512_srli_epi32(b, 16), _mm512_set1_epi32(1));
    Bits rounded = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(b, odd), _mm512_set1_epi32(0x7FFF)), 16);
    rounded = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), _mm512_set1_epi32(0x7FC0));
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(rounded));
}
#endif
static inline Vec inverse(Vec x) { return _mm512_rcp14_ps(x); }  // relative error 2^-14
// Of two rows of positive floats: one row of bf16 pairs, the first row's value in the low half; round to nearest.
static inline Bits pairs(Vec low, Vec high) {
    Bits half = _mm512_set1_epi32(0x8000);
    Bits a = _mm512_srli_epi32(_mm512_add_epi32(bits_of(low), half), 16), b = _mm512_add_epi32(bits_of(high), half);
    return _mm512_mask_blend_epi16(0xAAAAAAAA, a, b);
}

// 2^x by 2^floor(x) times a polynomial in the rest; relative error one rounding (EXACT) or 8e-5; goes to 0 below 2^-126.
template <bool EXACT> static inline Vec exp2(Vec x) {
    return _mm512_scalef_ps(exp2_polynomial<EXACT>(_mm512_reduce_ps(x, 1)), x);  // reduce: x - floor(x); scalef floors x itself
}

// Rows and columns of a W x W block of 32-bit values exchanged.
static inline void transpose(Bits (&r)[W]) {
    Bits t[W];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xDD);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xDD);
    }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xDD);
    }
}
static inline Bits load_bits(const void *p) { return _mm512_loadu_si512(p); }
static inline void store_bits(void *p, Bits x) { _mm512_storeu_si512(p, x); }

#else  // AVX2 with FMA

static const int W = 8;
typedef __m256 Vec;
typedef __m256i Bits;

static inline Vec zero() { return _mm256_setzero_ps(); }
static inline Vec all(float x) { return _mm256_set1_ps(x); }
static inline Vec load(const float *p) { return _mm256_loadu_ps(p); }
static inline void store(float *p, Vec x) { _mm256_storeu_ps(p, x); }
static inline Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
static inline Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
static inline Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
static inline Vec div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
static inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
static inline Vec abs(Vec a) { return _mm256_andnot_ps(all(-0.f), a); }
static inline float sum(Vec a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline bool all_less(Vec a, Vec b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ)) == 0xFF; }
static inline bool all_equal(Vec a, Vec b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)) == 0xFF; }
static inline Bits bits_of(Vec a) { return _mm256_castps_si256(a); }
static inline Vec floats_of(Bits a) { return _mm256_castsi256_ps(a); }
static inline Vec exponent(Vec a) {
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_srli_epi32(bits_of(a), 23), _mm256_set1_epi32(127)));
}
static inline Vec counting() { return _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7); }

template <bool EXACT> static inline Vec exp2_polynomial(Vec r);

static inline Vec load(const bf16 *p) {
    return floats_of(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
static inline void store(bf16 *p, Vec x) {
    Bits b = bits_of(x), odd = _mm256_and_si256(_mm256_srli_epi32(b, 16), _mm256_set1_epi32(1));
    Bits rounded = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(b, odd), _mm256_set1_epi32(0x7FFF)), 16);
    Bits nan = bits_of(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7FC0), nan);
    const __m128i low = _mm256_castsi256_si128(rounded), high = _mm256_extracti128_si256(rounded, 1);
    _mm_storeu_si128((__m128i *)p, _mm_packus_epi32(low, high));
}

static inline Vec inverse(Vec x) {  // one step of Newton after the 12 bits of rcpps
    const Vec r = _mm256_rcp_ps(x);
    return mul(r, _mm256_fnmadd_ps(x, r, all(2.f)));
}

template <bool EXACT> static inline Vec exp2(Vec x) {  // as above
    x = _mm256_min_ps(all(127.f), max(all(-126.f), x));  // in this order NaN passes
    Vec n = _mm256_floor_ps(x), p = exp2_polynomial<EXACT>(sub(x, n));
    return floats_of(_mm256_add_epi32(bits_of(p), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23)));
}

static inline void transpose(Bits (&r)[W]) {
    Bits t[W];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x31);
    }
    for (int i = 0; i < 8; i++) r[i] = t[i];
}
static inline Bits load_bits(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline void store_bits(void *p, Bits x) { _mm256_storeu_si256((__m256i *)p, x); }

#endif

// 2^r for 0 <= r < 1, fitted for the least relative error: 2.3e-9 in degree 6 (EXACT; 2^0 is 1), 7.5e-5 in degree 3.
template <bool EXACT> static inline Vec exp2_polynomial(Vec r) {
    if (EXACT) {
        Vec p = all(0.000217150257f);
        p = fma(p, r, all(0.0012440877f));
        p = fma(p, r, all(0.00967806391f));
        p = fma(p, r, all(0.0554841533f));
        p = fma(p, r, all(0.240229517f));
        p = fma(p, r, all(0.693147004f));
        return fma(p, r, all(1.f));
    }
    Vec p = fma(all(0.0780245168f), r, all(0.226067164f));
    p = fma(p, r, all(0.695833538f));
    return fma(p, r, all(0.999925219f));
}

// x / (1 + e^-x), as exact as exp2.
template <bool EXACT> static inline Vec silu(Vec x) {
    const Vec below = add(all(1.f), exp2<EXACT>(mul(x, all(-1.44269504f))));
    return EXACT ? div(x, below) : mul(x, inverse(below));
}
