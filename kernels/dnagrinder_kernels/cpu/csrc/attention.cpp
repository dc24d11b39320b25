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
const float TAME = 40;                  // a weight of 2^40 is as exact as one of 1, and 2^80 times it a float

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
    std::vector<Stored, Aligned<Stored>> keys, values, centre;  // centre: (d,)
    std::vector<float> radius;          // (blocks,) largest |k - centre| of a block
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
        for (long c = 0; c < d; c += W) {
            Vec sums = zero();
            for (int j = 0; j < rows; j++) sums = add(sums, load(k + (b * BLOCK + j) * call.k_token + c));
            store(part + c, sums);
        }
        for (long c = 0; c < d; c++) mean[c] += part[c];
    }
    if (head.dense) return;
    head.centre.resize(d), head.radius.resize(blocks);
    Vec centre_square = zero();
    for (long c = 0; c < d; c++) part[c] = (float)(mean[c] / n);
    for (long c = 0; c < d; c += W) {
        store(&head.centre[c], load(part + c));
        centre_square = fma(load(&head.centre[c]), load(&head.centre[c]), centre_square);
    }
    head.largest_radius = 0;
    for (long b = 0; b < blocks; b++) {
        const int rows = (int)std::min((long)BLOCK, n - b * BLOCK);
        alignas(64) float squares[BLOCK * W];
        for (int j = 0; j < BLOCK; j++) {
            const T *key = k + (b * BLOCK + j) * call.k_token;
            Vec square = zero();
            for (long c = 0; c < (j < rows ? d : 0); c += W) {
                const Vec apart = sub(load(key + c), load(&head.centre[c]));
                square = fma(apart, apart, square);
            }
            store(squares + j * W, square);
        }
        float largest = 0;
        for (int j = 0; j < BLOCK; j += W) {
            alignas(64) float sums[W];
            store(sums, sums_of_rows(squares + j * W));
            for (int r = 0; r < W; r++) largest = sums[r] > largest || sums[r] != sums[r] ? sums[r] : largest;
        }
        head.radius[b] = largest = std::sqrt(largest) * 1.00001f;   // rounding of the sum is far below 1e-5
        head.largest_radius = largest > head.largest_radius || largest != largest ? largest : head.largest_radius;
    }
    head.largest_key = std::sqrt(sum(centre_square)) * 1.00001f + head.largest_radius;

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

// Queries of one strip while it walks: peak (what its weights are relative to), sum and mixed values of each, and its part
// of the certificate.
template <class P> struct Strip {
    alignas(64) typename P::Stored queries[LANES * MOST_WIDTH];
    alignas(64) float mixed[MOST_WIDTH * LANES];   // (d, LANES)
    alignas(64) float peak[LANES], total[LANES];
    alignas(64) float excess[LANES], reach[LANES], own[LANES], doubt[LANES];
    long first;
    int rows;
    long left, right;                              // outermost blocks computed so far
    bool fresh, open_left, open_right;             // no block yet; sides that go on
};

template <class P, class T> void start_strip(const Call &call, const Head<P> &head, long sequence_first, long h, long first,
                                             Strip<P> &strip) {
    strip.first = first, strip.rows = (int)std::min((long)LANES, head.n - first);
    const T *q = (const T *)call.q + (sequence_first + first) * call.q_token + h * call.q_head;
    P::pack_queries(q, call.q_token, strip.rows, head.d, strip.queries);
    for (long x = 0; x < head.d * LANES; x += W) store(&strip.mixed[x], zero());
    for (int x = 0; x < LANES; x += W) store(&strip.peak[x], all(NEVER)), store(&strip.total[x], zero());
    strip.left = strip.right = first / BLOCK;      // BLOCK is a multiple of LANES
    strip.fresh = true;
    strip.open_left = strip.left > 0, strip.open_right = strip.right < head.blocks - 1;
}

// What the bound with this radius says of the keys at a distance of at least that of block b.
struct Outlook {
    bool negligible;  // all of them may be left out, by this margin
    bool tame;        // none has a score so far above the peak that its weight would overflow
};
template <class P> Outlook look(const Head<P> &head, const Strip<P> &strip, long b, float radius, float margin) {
    const float low = (float)(b * BLOCK - strip.first), high = low + BLOCK - 1;      // of the block, seen from the strip
    Outlook found = {true, !P::EXACT};
    for (int x = 0; x < LANES; x += W) {
        const Vec lane = add(counting(), all((float)x));
        const Vec distance = max(max(sub(all(low), lane), sub(lane, all(high))), zero());
        Vec best = fma(load(&strip.reach[x]), all(radius), load(&strip.excess[x]));  // above the own score
        best = fma(all(-head.slope), distance, best);
        const Vec peak = sub(load(&strip.peak[x]), load(&strip.own[x]));
        const Vec mass = sub(add(peak, exponent(mul(load(&strip.total[x]), all(0.999f)))), load(&strip.doubt[x]));
        found.negligible = found.negligible && all_less(best, sub(max(mass, zero()), all(margin)));
        found.tame = found.tame && all_less(best, add(peak, all(TAME)));
    }
    return found;
}

// The strip's part of the certificate, from the scores of its own block. True where the own score can serve as the peak.
template <class P> bool certify(const Head<P> &head, Strip<P> &strip, const float *scores) {
    if (head.dense) return false;
    const long own = strip.first - strip.left * BLOCK;  // row of lane 0's own key
    for (int r = 0; r < LANES; r++) strip.own[r] = scores[(own + r) * LANES + r] * head.scale;
    P::against(strip.queries, head.centre.data(), head.d, strip.excess);   // q . c
    P::squares(strip.queries, head.d, strip.reach);                        // |q|^2
    for (int r = 0; r < LANES; r++) {
        const float norm = std::sqrt(strip.reach[r]) * 1.00001f * head.scale;
        strip.reach[r] = norm;                                                              // times R, added to excess:
        strip.excess[r] = strip.excess[r] * head.scale - strip.own[r] + 1e-5f * norm * head.largest_radius;
        strip.doubt[r] = head.d * 5e-7f * norm * head.largest_key;  // what float32 may err in four sums of d products
        if (r >= strip.rows) strip.excess[r] = NEVER;               // an empty lane never holds a side open
    }
    if (P::EXACT) return false;
    for (int x = 0; x < LANES; x += W) store(&strip.peak[x], load(&strip.own[x]));
    if (look(head, strip, strip.left, head.radius[strip.left], 0).tame) return true;
    for (int x = 0; x < LANES; x += W) store(&strip.peak[x], all(NEVER));
    return false;
}

enum Side { LEFT, RIGHT, OWN };  // where the keys lie, seen from the queries; OWN blocks overlap them

// Weights of block b from its scores. Score of key row j as the walk sees it: product * scale - slope * |i - j| =
// fma(product, scale, bias(j)) + edge(lane). A TAME block leaves the peak as it is.
template <class P, Side SIDE, bool WHOLE, bool TAME_BLOCK>
void weigh_block(const Head<P> &head, Strip<P> &strip, long b, const float *scores, typename P::Weight *weights) {
    const int keys = WHOLE ? BLOCK : (int)(head.n - b * BLOCK);
    const float offset = (float)(strip.first - b * BLOCK);             // query lane 0 minus key row 0
    const Vec scale = all(head.scale), slope = all(head.slope), down = all(-head.slope);

    Vec edge[V], position[V];
    for (int x = 0; x < V; x++) {
        position[x] = add(counting(), all(offset + (float)(x * W)));   // i - (first key of the block)
        edge[x] = zero();                                              // the bias of the lane's nearest key
        if (SIDE == LEFT) edge[x] = mul(sub(position[x], all((float)(BLOCK - 1))), down);
        if (SIDE == RIGHT) edge[x] = mul(position[x], slope);
    }
    auto score = [&](int j, int x) -> Vec {
        const Vec product = load(scores + j * LANES + x * W);
        if (SIDE == OWN) return fma(down, abs(sub(position[x], all((float)j))), mul(product, scale));
        return fma(product, scale, all(head.steps[SIDE == LEFT ? BLOCK - 1 - j : j]));
    };
    Vec shift[V], sums[V];
    if (!TAME_BLOCK) {
        Vec top[V], fade[V];
        bool same = true;
        for (int x = 0; x < V; x++) top[x] = all(NEVER);
        for (int j = 0; j < keys; j++)
            for (int x = 0; x < V; x++) top[x] = max(top[x], score(j, x));
        for (int x = 0; x < V; x++) {
            const Vec peak = load(&strip.peak[x * W]), next = max(peak, add(top[x], edge[x]));
            fade[x] = exp2<true>(sub(peak, next));
            same = same && all_equal(peak, next);
            store(&strip.peak[x * W], next);
            store(&strip.total[x * W], mul(load(&strip.total[x * W]), fade[x]));
        }
        if (!same)
            for (long c = 0; c < head.d; c++)
                for (int x = 0; x < V; x++) {
                    float *mixed = &strip.mixed[c * LANES + x * W];
                    store(mixed, mul(load(mixed), fade[x]));
                }
    }
    for (int x = 0; x < V; x++) shift[x] = sub(edge[x], load(&strip.peak[x * W])), sums[x] = zero();
    P::weigh(keys, weights, sums, [&](int j, int x) -> Vec { return exp2<P::EXACT>(add(score(j, x), shift[x])); });
    for (int x = 0; x < V; x++) store(&strip.total[x * W], add(load(&strip.total[x * W]), sums[x]));
}

template <class P, bool TAME_BLOCK>
void weigh_side(const Head<P> &head, Strip<P> &strip, long b, const float *scores, typename P::Weight *weights) {
    const long low = b * BLOCK, high = low + BLOCK;
    if (high > head.n) {  // the last, incomplete block
        if (low >= strip.first + LANES) weigh_block<P, RIGHT, false, TAME_BLOCK>(head, strip, b, scores, weights);
        else weigh_block<P, OWN, false, TAME_BLOCK>(head, strip, b, scores, weights);
    } else if (high <= strip.first) weigh_block<P, LEFT, true, TAME_BLOCK>(head, strip, b, scores, weights);
    else if (low >= strip.first + LANES) weigh_block<P, RIGHT, true, TAME_BLOCK>(head, strip, b, scores, weights);
    else weigh_block<P, OWN, true, TAME_BLOCK>(head, strip, b, scores, weights);
}

// One key block on a strip's way. `scores` and `weights` are room for the work.
template <class P> void visit(const Head<P> &head, Strip<P> &strip, long b, bool tame, float *scores,
                              typename P::Weight *weights) {
    P::score(&head.keys[b * BLOCK * head.d], strip.queries, head.d, scores);
    if (strip.fresh) tame = certify(head, strip, scores);
    strip.fresh = false;
    if (tame) weigh_side<P, true>(head, strip, b, scores, weights);
    else weigh_side<P, false>(head, strip, b, scores, weights);
    P::mix(&head.values[b * BLOCK * head.d], weights, head.d, strip.mixed);
}

// The next block on one side, from `last` by `way`; false where it and all behind it may be left out.
template <class P> bool step(const Head<P> &head, Strip<P> &strip, long &last, int way, const std::vector<float> &radius,
                             float *scores, typename P::Weight *weights) {
    const long b = last + way;
    Outlook ahead = {false, false};
    if (!head.dense) ahead = look(head, strip, b, radius[b], head.tail_margin);
    if (ahead.negligible) return false;
    last = b;
    visit(head, strip, b, ahead.tame && !head.is_outlier[b], scores, weights);
    return true;
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
    for (; count < STRIPS && first + count * LANES < head.n; count++, computed++) {
        start_strip<P, T>(call, head, sequence_first, h, first + count * LANES, strips[count]);
        visit(head, strips[count], strips[count].left, false, scores, weights);
    }
    for (bool any = true; any;) {
        any = false;
        for (int s = 0; s < count; s++) {
            Strip<P> &strip = strips[s];
            if (strip.open_left) strip.open_left = step(head, strip, strip.left, -1, head.before, scores, weights);
            if (strip.open_right) strip.open_right = step(head, strip, strip.right, 1, head.after, scores, weights);
            computed += strip.open_left + strip.open_right;
            strip.open_left = strip.open_left && strip.left > 0;
            strip.open_right = strip.open_right && strip.right < head.blocks - 1;
            any = any || strip.open_left || strip.open_right;
        }
    }
    for (int s = 0; s < count; s++) {
        Strip<P> &strip = strips[s];
        for (int b : head.outliers) {
            if (b >= strip.left && b <= strip.right) continue;
            const Outlook ahead = look(head, strip, b, head.radius[b], head.outlier_margin);
            if (ahead.negligible) continue;
            visit(head, strip, b, ahead.tame, scores, weights), computed++;
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
