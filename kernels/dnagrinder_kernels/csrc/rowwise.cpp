// Operations on rows of features: LayerNorm with what is added before it, and the SwiGLU gate. Sums are float32; every row
// depends on itself alone. The number of features is a multiple of 16.
#include "simd.h"

#include <cmath>

namespace {

const long MOST_FEATURES = 8192;

// Normalises d floats that lie in `values`, scales, shifts and stores them as T.
template <class T> void normalise(const float *values, const T *weight, const T *bias, float eps, long d, T *out) {
    Vec total = zero();
    for (long c = 0; c < d; c += W) total = add(total, load(values + c));
    const Vec mean = all(sum(total) / (float)d);
    Vec square = zero();
    for (long c = 0; c < d; c += W) {
        const Vec apart = sub(load(values + c), mean);
        square = fma(apart, apart, square);
    }
    const Vec inverse = all(1.f / std::sqrt(sum(square) / (float)d + eps));
    for (long c = 0; c < d; c += W) {
        const Vec scaled = mul(sub(load(values + c), mean), inverse);
        store(out + c, fma(scaled, load(weight + c), load(bias + c)));
    }
}

template <class T>
void residual_layer_norm(const T *x, const T *residual, const T *weight, const T *bias, T *out, long rows, long d, float eps,
                         int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long r = 0; r < rows; r++) {
        alignas(64) float values[MOST_FEATURES];
        for (long c = 0; c < d; c += W) store(values + c, add(load(x + r * d + c), load(residual + r * d + c)));
        normalise(values, weight, bias, eps, d, out + r * d);
    }
}

template <class T>
void embedding_layer_norm(const int64_t *ids, const T *table, const T *offset, const T *weight, const T *bias, T *out, long rows,
                          long d, float eps, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long r = 0; r < rows; r++) {
        alignas(64) float values[MOST_FEATURES];
        for (long c = 0; c < d; c += W) store(values + c, add(load(table + ids[r] * d + c), load(offset + c)));
        normalise(values, weight, bias, eps, d, out + r * d);
    }
}

// silu(gate) * value; a row of x is the gates, then the values.
template <class T> void swiglu(const T *x, T *out, long rows, long m, int threads) {
    const Vec one = all(1.f), log2e = all(-1.44269504f);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < m; c += W) {
            const Vec gate = load(x + 2 * r * m + c), value = load(x + (2 * r + 1) * m + c);
            const Vec silu = div(gate, add(one, exp2<sizeof(T) == 4>(mul(gate, log2e))));
            store(out + r * m + c, mul(silu, value));
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
