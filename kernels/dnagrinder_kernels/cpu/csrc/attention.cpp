// ALiBi attention on packed sequences that skips keys which cannot matter. The proof of the cut-off is in alibi.py.
//
// Everything is computed transposed: a lane of a register is a query, a row is a key. So the softmax is free of horizontal
// sums, keys are read as they lie, and one algorithm serves every instruction set; only the two products differ
// (products.h). A strip of LANES queries walks over key blocks of BLOCK keys, its own first, then outward on both sides in
// turn, until the certificate ends a side. STRIPS strips walk abreast so that a key block is fetched once for all of them.
// A strip's arithmetic depends on its own sequence and head alone: bits do not depend on the pack or on the threads.
#include "products.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <vector>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

const int STRIPS = 4;                   // strips that walk abreast
const int SPAN = STRIPS * LANES;        // queries of one task
const int V = LANES / W;                // registers across a strip
const int MOST_OUTLIERS = 16;           // key blocks of largest radius that stay out of the bound
const int DENSE_BLOCKS = 3;             // up to so many key blocks nothing is worth skipping
const long SHARED_LENGTH = 4096;        // longer sequences are packed once a head and shared by all threads
const float LOG2E = 1.44269504f, NEVER = -1e30f;

struct Call {                           // what Python hands over
    const void *q, *k, *v;              // (tokens, heads, d); strides in elements
    long q_token, k_token, v_token, q_head, k_head, v_head;
    void *out;                          // (tokens, heads, d), contiguous
    const int64_t *cu_seqlens;          // (sequences + 1,)
    long sequences, heads, d;
    const float *slopes;                // (heads,)
    double epsilon;
    int threads;
    int64_t *computed;                  // (heads,) strip x key block pairs computed; may be null
};

// Keys and values of one head of one sequence, packed, and what the certificate needs of them.
template <class P> struct Head {
    typedef typename P::Stored Stored;
    long n, d, blocks;
    float scale, slope;                 // both in units of log 2, like every score below
    std::vector<Stored, Aligned<Stored>> keys, values;
    std::vector<float> centre, radius;  // (d,) and (blocks,): largest |k - centre| of a block
    std::vector<float> before, after;   // largest radius of a block at or before / at or after, outliers left out
    std::vector<int> outliers;
    std::vector<char> is_outlier;
    float steps[BLOCK];                 // bias of a key by its distance in keys from the nearest of its block
    float largest_radius, largest_key, tail_margin, outlier_margin;
    bool dense;
};

template <class P, class T> void pack_head(const Call &call, long first, long n, long h, Head<P> &head) {
    const T *k = (const T *)call.k + first * call.k_token + h * call.k_head;
    const T *v = (const T *)call.v + first * call.v_token + h * call.v_head;
    const long d = call.d, blocks = (n + BLOCK - 1) / BLOCK;
    head.n = n, head.d = d, head.blocks = blocks;
    head.scale = LOG2E / std::sqrt((float)d), head.slope = call.slopes[h] * LOG2E;
    for (int j = 0; j < BLOCK; j++) head.steps[j] = -head.slope * (float)j;
    head.dense = call.epsilon <= 0 || call.slopes[h] <= 0 || blocks <= DENSE_BLOCKS;
    head.keys.resize(blocks * BLOCK * d), head.values.resize(blocks * BLOCK * d);
    head.outliers.clear();
    alignas(64) double mean[MOST_WIDTH] = {0};
    alignas(64) float part[MOST_WIDTH];
    for (long b = 0; b < blocks; b++) {
        const int rows = (int)std::min((long)BLOCK, n - b * BLOCK);
        P::pack_keys(k + b * BLOCK * call.k_token, call.k_token, rows, d, &head.keys[b * BLOCK * d]);
        P::pack_values(v + b * BLOCK * call.v_token, call.v_token, rows, d, &head.values[b * BLOCK * d]);
        if (head.dense) continue;
        for (long c = 0; c < d; c += W) store(part + c, zero());
        for (int j = 0; j < rows; j++) {
            const T *key = k + (b * BLOCK + j) * call.k_token;
            for (long c = 0; c < d; c += W) store(&part[c], add(load(&part[c]), load(key + c)));
        }
        for (long c = 0; c < d; c++) mean[c] += part[c];
    }
    if (head.dense) return;
    head.centre.resize(d), head.radius.resize(blocks);
    float centre_square = 0;
    for (long c = 0; c < d; c++) head.centre[c] = (float)(mean[c] / n), centre_square += head.centre[c] * head.centre[c];
    head.largest_radius = 0;
    for (long b = 0; b < blocks; b++) {
        float largest = 0;
        for (long j = b * BLOCK; j < std::min(n, (b + 1) * BLOCK); j++) {
            const T *key = k + j * call.k_token;
            Vec square = zero();
            for (long c = 0; c < d; c += W) {
                Vec apart = sub(load(key + c), load(&head.centre[c]));
                square = fma(apart, apart, square);
            }
            const float norm = std::sqrt(sum(square)) * 1.00001f;   // rounding of the sum is far below 1e-5
            largest = norm > largest || norm != norm ? norm : largest;
        }
        head.radius[b] = largest;
        head.largest_radius = largest > head.largest_radius || largest != largest ? largest : head.largest_radius;
    }
    head.largest_key = std::sqrt(centre_square) * 1.00001f + head.largest_radius;

    const int count = (int)std::min((long)MOST_OUTLIERS, blocks / 8);
    std::vector<int> order(blocks);
    for (long b = 0; b < blocks; b++) order[b] = (int)b;
    std::partial_sort(order.begin(), order.begin() + count, order.end(), [&](int x, int y) {
        return head.radius[x] != head.radius[y] ? head.radius[x] > head.radius[y] : x < y;
    });
    head.outliers.assign(order.begin(), order.begin() + count);
    std::sort(head.outliers.begin(), head.outliers.end());
    head.is_outlier.assign(blocks, 0);
    for (int b : head.outliers) head.is_outlier[b] = 1;
    head.before.resize(blocks), head.after.resize(blocks);
    float running = 0;
    for (long b = 0; b < blocks; b++) head.before[b] = running = std::max(running, head.is_outlier[b] ? 0.f : head.radius[b]);
    running = 0;
    for (long b = blocks; b-- > 0;) head.after[b] = running = std::max(running, head.is_outlier[b] ? 0.f : head.radius[b]);

    const double share = count ? call.epsilon / 2 : call.epsilon;
    head.tail_margin = (float)(std::log(2.0 / (-std::expm1(-(double)call.slopes[h]) * share)) * LOG2E * 1.000001);
    head.outlier_margin = count ? (float)(std::log(BLOCK * count / share) * LOG2E * 1.000001) : 0;
}

// Queries of one strip while it walks: running maximum, sum and mixed values of each, and its part of the certificate.
template <class P> struct Strip {
    alignas(64) typename P::Stored queries[LANES * MOST_WIDTH];
    alignas(64) float mixed[MOST_WIDTH * LANES];   // (d, LANES)
    alignas(64) float peak[LANES], total[LANES];
    alignas(64) float excess[LANES], reach[LANES], own[LANES], doubt[LANES];
    long first;
    int rows;
    long left, right;                              // outermost blocks computed so far
    bool open_left, open_right;
};

template <class P, class T> void start_strip(const Call &call, const Head<P> &head, long sequence_first, long h, long first,
                                             Strip<P> &strip) {
    const long d = head.d;
    strip.first = first, strip.rows = (int)std::min((long)LANES, head.n - first);
    const T *q = (const T *)call.q + (sequence_first + first) * call.q_token + h * call.q_head;
    P::pack_queries(q, call.q_token, strip.rows, d, strip.queries);
    for (long x = 0; x < d * LANES; x += W) store(&strip.mixed[x], zero());
    for (int x = 0; x < LANES; x += W) store(&strip.peak[x], all(NEVER)), store(&strip.total[x], zero());
    if (head.dense) return;
    const T *k = (const T *)call.k + (sequence_first + first) * call.k_token + h * call.k_head;
    for (int r = 0; r < LANES; r++) {
        if (r >= strip.rows) {                     // an empty lane never holds a side open
            strip.excess[r] = NEVER, strip.reach[r] = strip.own[r] = strip.doubt[r] = 0;
            continue;
        }
        Vec square = zero(), away = zero(), self = zero();
        for (long c = 0; c < d; c += W) {
            Vec query = load(q + r * call.q_token + c), key = load(k + r * call.k_token + c);
            square = fma(query, query, square);
            away = fma(query, sub(load(&head.centre[c]), key), away);
            self = fma(query, key, self);
        }
        const float norm = std::sqrt(sum(square)) * 1.00001f * head.scale;
        strip.reach[r] = norm;                                                       // times R, added to excess:
        strip.excess[r] = sum(away) * head.scale + 1e-5f * norm * head.largest_radius;  // scale (q.(c - k) + |q| R), rounded up
        strip.own[r] = sum(self) * head.scale;
        strip.doubt[r] = d * 5e-7f * norm * head.largest_key;                        // what float32 may err in two scores
    }
}

// May every key at a distance of at least that of block b be left out, by the bound with this radius and margin?
template <class P> bool negligible(const Head<P> &head, const Strip<P> &strip, long b, float radius, float margin) {
    const float low = (float)(b * BLOCK - strip.first), high = low + BLOCK - 1;      // of the block, seen from the strip
    for (int x = 0; x < LANES; x += W) {
        Vec lane = add(counting(), all((float)x));
        Vec distance = max(max(sub(all(low), lane), sub(lane, all(high))), zero());
        Vec gain = max(sub(sub(load(&strip.peak[x]), load(&strip.own[x])), load(&strip.doubt[x])), zero());
        Vec best = fma(load(&strip.reach[x]), all(radius), load(&strip.excess[x]));
        best = fma(all(-head.slope), distance, best);
        if (!all_less(best, sub(gain, all(margin)))) return false;
    }
    return true;
}

enum Side { LEFT, RIGHT, OWN };  // where the keys lie, seen from the queries; OWN blocks overlap them

// Score of key row j as the walk sees it: product * scale - slope * |i - j| = fma(product, scale, bias(j)) + edge(lane).
template <class P, Side SIDE, bool WHOLE> void compute_block(const Head<P> &head, Strip<P> &strip, long b, float *scores,
                                                             typename P::Weight *weights) {
    const long d = head.d;
    const int keys = WHOLE ? BLOCK : (int)(head.n - b * BLOCK);
    const float offset = (float)(strip.first - b * BLOCK);             // query lane 0 minus key row 0
    const Vec scale = all(head.scale), slope = all(head.slope), down = all(-head.slope);
    P::score(&head.keys[b * BLOCK * d], strip.queries, d, scores);

    Vec edge[V], top[V], position[V];
    for (int x = 0; x < V; x++) {
        position[x] = add(counting(), all(offset + (float)(x * W)));   // i - (first key of the block)
        edge[x] = zero();                                              // the bias of the lane's nearest key
        if (SIDE == LEFT) edge[x] = mul(sub(position[x], all((float)(BLOCK - 1))), down);
        if (SIDE == RIGHT) edge[x] = mul(position[x], slope);
        top[x] = all(NEVER);
    }
    auto score = [&](int j, int x) -> Vec {
        const Vec product = load(scores + j * LANES + x * W);
        if (SIDE == OWN) return fma(down, abs(sub(position[x], all((float)j))), mul(product, scale));
        return fma(product, scale, all(head.steps[SIDE == LEFT ? BLOCK - 1 - j : j]));
    };
    for (int j = 0; j < keys; j++)
        for (int x = 0; x < V; x++) top[x] = max(top[x], score(j, x));

    Vec shift[V], sums[V], fade[V];
    bool same = true;
    for (int x = 0; x < V; x++) {
        const Vec peak = load(&strip.peak[x * W]), next = max(peak, add(top[x], edge[x]));
        fade[x] = exp2<true>(sub(peak, next));
        same = same && all_equal(peak, next);
        store(&strip.peak[x * W], next);
        shift[x] = sub(edge[x], next), sums[x] = zero();
    }
    P::weigh(keys, weights, sums, [&](int j, int x) -> Vec { return exp2<P::EXACT>(add(score(j, x), shift[x])); });
    for (int x = 0; x < V; x++) store(&strip.total[x * W], fma(load(&strip.total[x * W]), fade[x], sums[x]));
    if (!same)
        for (long c = 0; c < d; c++)
            for (int x = 0; x < V; x++) {
                float *mixed = &strip.mixed[c * LANES + x * W];
                store(mixed, mul(load(mixed), fade[x]));
            }
    P::mix(&head.values[b * BLOCK * d], weights, d, strip.mixed);
}

template <class P> void visit(const Head<P> &head, Strip<P> &strip, long b, float *scores, typename P::Weight *weights) {
    const long low = b * BLOCK, high = low + BLOCK;
    if (high > head.n) {  // the last, incomplete block
        if (low >= strip.first + LANES) compute_block<P, RIGHT, false>(head, strip, b, scores, weights);
        else compute_block<P, OWN, false>(head, strip, b, scores, weights);
    } else if (high <= strip.first) compute_block<P, LEFT, true>(head, strip, b, scores, weights);
    else if (low >= strip.first + LANES) compute_block<P, RIGHT, true>(head, strip, b, scores, weights);
    else compute_block<P, OWN, true>(head, strip, b, scores, weights);
}

template <class P, class T> void finish_strip(const Call &call, const Head<P> &head, long sequence_first, long h,
                                              Strip<P> &strip) {
    T *out = (T *)call.out + ((sequence_first + strip.first) * call.heads + h) * head.d;
    for (int x = 0; x < strip.rows; x += W) {
        const Vec share = div(all(1.f), load(&strip.total[x]));
        const int rows = std::min(W, strip.rows - x);
        write_columns(strip.mixed + x, head.d, share, rows, out + x * call.heads * head.d, call.heads * head.d);
    }
}

// All strips of one task, outward from their own blocks. Returns the number of blocks computed.
template <class P, class T> int64_t run_task(const Call &call, const Head<P> &head, long sequence_first, long h, long first) {
    alignas(64) float scores[BLOCK * LANES];
    alignas(64) typename P::Weight weights[BLOCK * LANES];
    static thread_local std::unique_ptr<Strip<P>[]> storage(new Strip<P>[STRIPS]);
    Strip<P> *strips = storage.get();
    int count = 0;
    int64_t computed = 0;
    for (; count < STRIPS && first + count * LANES < head.n; count++) {
        Strip<P> &strip = strips[count];
        start_strip<P, T>(call, head, sequence_first, h, first + count * LANES, strip);
        strip.left = strip.first / BLOCK, strip.right = (strip.first + strip.rows - 1) / BLOCK;
        for (long b = strip.left; b <= strip.right; b++, computed++) visit(head, strip, b, scores, weights);
        strip.open_left = strip.left > 0, strip.open_right = strip.right < head.blocks - 1;
    }
    for (bool any = true; any;) {
        any = false;
        for (int s = 0; s < count; s++) {
            Strip<P> &strip = strips[s];
            if (strip.open_left && !head.dense)
                strip.open_left = !negligible(head, strip, strip.left - 1, head.before[strip.left - 1], head.tail_margin);
            if (strip.open_left) visit(head, strip, --strip.left, scores, weights), computed++;
            if (strip.open_right && !head.dense)
                strip.open_right = !negligible(head, strip, strip.right + 1, head.after[strip.right + 1], head.tail_margin);
            if (strip.open_right) visit(head, strip, ++strip.right, scores, weights), computed++;
            strip.open_left = strip.open_left && strip.left > 0;
            strip.open_right = strip.open_right && strip.right < head.blocks - 1;
            any = any || strip.open_left || strip.open_right;
        }
    }
    for (int s = 0; s < count; s++) {
        Strip<P> &strip = strips[s];
        for (int b : head.outliers) {
            if (b >= strip.left && b <= strip.right) continue;
            if (negligible(head, strip, b, head.radius[b], head.outlier_margin)) continue;
            visit(head, strip, b, scores, weights), computed++;
        }
        finish_strip<P, T>(call, head, sequence_first, h, strip);
    }
    return computed;
}

template <class P, class T> void run(const Call &call) {
    std::vector<std::atomic<int64_t>> computed(call.heads);
    for (auto &count : computed) count = 0;
    std::vector<long> lone, shared;  // sequences by where their heads are packed
    for (long s = 0; s < call.sequences; s++)
        (call.cu_seqlens[s + 1] - call.cu_seqlens[s] > SHARED_LENGTH ? shared : lone).push_back(s);
    Head<P> common;
#pragma omp parallel num_threads(call.threads)
    {
        FlushDenormals flush;
        typename P::Session session;
        Head<P> own;
#pragma omp for schedule(dynamic)
        for (long item = 0; item < (long)lone.size() * call.heads; item++) {
            const long s = lone[item / call.heads], h = item % call.heads;
            const long first = call.cu_seqlens[s], n = call.cu_seqlens[s + 1] - first;
            if (n == 0) continue;
            pack_head<P, T>(call, first, n, h, own);
            for (long start = 0; start < n; start += SPAN) computed[h] += run_task<P, T>(call, own, first, h, start);
        }
        for (long s : shared)
            for (long h = 0; h < call.heads; h++) {
                const long first = call.cu_seqlens[s], n = call.cu_seqlens[s + 1] - first;
#pragma omp single
                pack_head<P, T>(call, first, n, h, common);
#pragma omp for schedule(dynamic)
                for (long start = 0; start < n; start += SPAN) computed[h] += run_task<P, T>(call, common, first, h, start);
            }
    }
    if (call.computed)
        for (long h = 0; h < call.heads; h++) call.computed[h] += computed[h];
}

}  // namespace

extern "C" void dnagrinder_attention_float32(const Call *call) { run<PlainProducts, float>(*call); }
extern "C" void dnagrinder_attention_bfloat16(const Call *call) {
#if defined(__AMX_BF16__)
    if (call->d % 32 == 0) return run<AmxProducts, bf16>(*call);
#endif
#if defined(__AVX512BF16__)
    run<DotProducts, bf16>(*call);
#else
    run<PlainProducts, bf16>(*call);
#endif
}
// Asks the kernel for what the build needs beyond the processor's features. 0 where it is granted.
extern "C" int dnagrinder_prepare() {
#if defined(__AMX_BF16__)
    const int REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 ? 0 : 1;
#else
    return 0;
#endif
}
extern "C" int dnagrinder_lanes() { return LANES; }
extern "C" int dnagrinder_block() { return BLOCK; }
