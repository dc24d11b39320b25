// Operations on rows of features: LayerNorm with what is added before it, and the SwiGLU gate. Sums are float32; every row
// depends on itself alone. The number of features is a multiple of 16.
#include "simd.h"

#include <cmath>

namespace {

const long MOST_FEATURES = 8192;

// f(c, lane) for every register c of a row, with four lanes in turn: sums that run abreast do not wait for each other.
template <class F> void walk(long d, F f) {
    long c = 0;
    for (; c + 4 * W <= d; c += 4 * W) f(c, 0), f(c + W, 1), f(c + 2 * W, 2), f(c + 3 * W, 3);
    for (; c < d; c += W) f(c, 0);
}

// LayerNorm(first + second) of one row of d features, scaled and shifted.
template <class T>
void normalise_sum(const T *first, const T *second, const T *weight, const T *bias, float eps, long d, T *out) {
    alignas(64) float values[MOST_FEATURES];
    Vec total[4] = {zero(), zero(), zero(), zero()}, square[4] = {zero(), zero(), zero(), zero()};
    walk(d, [&](long c, int lane) {
        const Vec value = add(load(first + c), load(second + c));
        total[lane] = add(total[lane], value);
        store(values + c, value);
    });
    const Vec mean = all(sum(add(add(total[0], total[1]), add(total[2], total[3]))) / (float)d);
    walk(d, [&](long c, int lane) {
        const Vec apart = sub(load(values + c), mean);
        square[lane] = fma(apart, apart, square[lane]);
    });
    const float variance = sum(add(add(square[0], square[1]), add(square[2], square[3]))) / (float)d;
    const Vec scale = all(1.f / std::sqrt(variance + eps));
    for (long c = 0; c < d; c += W) {
        const Vec scaled = mul(sub(load(values + c), mean), scale);
        store(out + c, fma(scaled, load(weight + c), load(bias + c)));
    }
}

template <class T>
void residual_layer_norm(const T *x, const T *residual, const T *weight, const T *bias, T *out, long rows, long d, float eps,
                         int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long r = 0; r < rows; r++) normalise_sum(x + r * d, residual + r * d, weight, bias, eps, d, out + r * d);
}

template <class T>
void embedding_layer_norm(const int64_t *ids, const T *table, const T *offset, const T *weight, const T *bias, T *out, long rows,
                          long d, float eps, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long r = 0; r < rows; r++) normalise_sum(table + ids[r] * d, offset, weight, bias, eps, d, out + r * d);
}

// silu(gate) * value; a row of x is the gates, then the values.
template <class T> void swiglu(const T *x, T *out, long rows, long m, int threads) {
    const bool exact = sizeof(T) == 4;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < m; c += W) {
            const Vec gate = load(x + 2 * r * m + c), value = load(x + (2 * r + 1) * m + c);
            store(out + r * m + c, mul(silu<exact>(gate), value));
        }
}

}  // namespace

#define EXPORT(NAME, T)                                                                                                       \
    extern "C" void dnagrinder_residual_layer_norm_##NAME(const T *x, const T *residual, const T *weight, const T *bias,      \
                                                          T *out, long rows, long d, float eps, int threads) {                \
        residual_layer_norm(x, residual, weight, bias, out, rows, d, eps, threads);                                           \
    }                                                                                                                         \
    extern "C" void dnagrinder_embedding_layer_norm_##NAME(const int64_t *ids, const T *table, const T *offset,               \
                                                           const T *weight, const T *bias, T *out, long rows, long d,         \
                                                           float eps, int threads) {                                          \
        embedding_layer_norm(ids, table, offset, weight, bias, out, rows, d, eps, threads);                                   \
    }                                                                                                                         \
    extern "C" void dnagrinder_swiglu_##NAME(const T *x, T *out, long rows, long m, int threads) {                            \
        swiglu(x, out, rows, m, threads);                                                                                     \
    }
EXPORT(float32, float)
EXPORT(bfloat16, bf16)
