// What an MLP's epoch is made of besides matrix products: activations, losses, the update rule, and the memory layout.
#pragma once

#include <limits>

#include "native_gemm.h"

namespace {

// ---- activations, in the order of models.config.ACTIVATIONS ---------------------------------------------------------
// value(x, slope) is f(x); where kFromInput it also gives f'(x), otherwise slope(f(x)) gives it from the value.

template <class T> struct Relu {
    static constexpr bool kFromInput = false;
    static INLINE Vec<T> value(Vec<T> x, Vec<T>&) { return x <= T(0) ? Vec<T>{} : x; }
    static INLINE Vec<T> slope(Vec<T> a) { return a > T(0) ? splat(T(1)) : Vec<T>{}; }
};
template <class T> struct Tanh {
    static constexpr bool kFromInput = false;
    static INLINE Vec<T> value(Vec<T> x, Vec<T>&) { return tanh_(x); }
    static INLINE Vec<T> slope(Vec<T> a) { return fused<T>(-a, a, T(1)); }
};
template <class T> struct Sigmoid {
    static constexpr bool kFromInput = false;
    static INLINE Vec<T> value(Vec<T> x, Vec<T>&) { return sigmoid(x); }
    static INLINE Vec<T> slope(Vec<T> a) { return a * (T(1) - a); }
};
template <class T> struct LeakyRelu {
    static constexpr bool kFromInput = false;
    static INLINE Vec<T> value(Vec<T> x, Vec<T>&) { return x > T(0) ? x : x * T(0.01); }
    static INLINE Vec<T> slope(Vec<T> a) { return a > T(0) ? splat(T(1)) : splat(T(0.01)); }
};
template <class T> struct Elu {
    static constexpr bool kFromInput = false;
    static INLINE Vec<T> value(Vec<T> x, Vec<T>&) { return x > T(0) ? x : expm1_(x); }
    static INLINE Vec<T> slope(Vec<T> a) { return a > T(0) ? splat(T(1)) : a + T(1); }
};
template <class T> struct Gelu {  // x * Phi(x), the exact one
    static constexpr bool kFromInput = true;
    static INLINE Vec<T> value(Vec<T> x, Vec<T>& slope) {
        const Vec<T> phi = fused<T>(erf_(x * T(0.70710678118654752440)), T(0.5), T(0.5));
        slope = fused<T>(x * exponential(T(-0.5) * x * x), T(0.39894228040143267794), phi);
        return x * phi;
    }
    static INLINE Vec<T> slope(Vec<T> a) { return a; }
};
template <class T> struct Silu {
    static constexpr bool kFromInput = true;
    static INLINE Vec<T> value(Vec<T> x, Vec<T>& slope) {
        const Vec<T> s = sigmoid(x);
        slope = s * fused<T>(x, T(1) - s, T(1));
        return x * s;
    }
    static INLINE Vec<T> slope(Vec<T> a) { return a; }
};

// z <- f(z); slope is written where f needs its input for it
template <class T, class F> void activate_with(T* z, T* slope, index_t n) {
    for (index_t i = 0; i < n; i += kLanes<T>) {
        Vec<T> at{};
        const Vec<T> a = F::value(load(z + i), at);
        store(z + i, a);
        if (F::kFromInput) store(slope + i, at);
    }
}

// a <- delta * f', the gradient of what went into the activation
template <class T, class F> void retreat_with(T* a, const T* slope, const T* delta, index_t n) {
    for (index_t i = 0; i < n; i += kLanes<T>)
        store(a + i, load(delta + i) * (F::kFromInput ? load(slope + i) : F::slope(load(a + i))));
}

#define FOR_ACTIVATION(CALL)                    \
    switch (activation) {                       \
        case 0: CALL(Relu<T>); break;           \
        case 1: CALL(Tanh<T>); break;           \
        case 2: CALL(Sigmoid<T>); break;        \
        case 3: CALL(LeakyRelu<T>); break;      \
        case 4: CALL(Elu<T>); break;            \
        case 5: CALL(Gelu<T>); break;           \
        case 6: CALL(Silu<T>); break;           \
    }

template <class T> void activate(index_t activation, T* z, T* slope, index_t n) {
#define CALL(F) activate_with<T, F>(z, slope, n)
    FOR_ACTIVATION(CALL)
#undef CALL
}

template <class T> void retreat(index_t activation, T* a, const T* slope, const T* delta, index_t n) {
#define CALL(F) retreat_with<T, F>(a, slope, delta, n)
    FOR_ACTIVATION(CALL)
#undef CALL
}

template <class T> INLINE Vec<T> lanes() {  // 0 1 2 ..
    Vec<T> lane;
    for (int i = 0; i < kLanes<T>; i++) lane[i] = T(i);
    return lane;
}

// ---- losses: sums over the rows of a chunk, and the gradient of scale * sum in place of the outputs ------------------
// Each row counts as often as its weight says; without weights, once.

struct Score {
    double loss = 0.0;   // sum over examples
    double right = 0.0;  // classification: sum over examples whose largest output is their class
};

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

template <class T> index_t first_largest(const T* z, index_t classes) {
    index_t best = 0;
    for (index_t j = 1; j < classes; j++) best = z[j] > z[best] ? j : best;
    return best;
}

// loss_r = log(sum_j exp(z_rj)) - z_r,y; its gradient is softmax(z_r) - onehot(y). sums: room for one number a row.
template <class T>
Score cross_entropy(T* z, index_t ld, index_t rows, index_t classes, const index_t* labels, const T* weights,
                    const index_t* order, T scale, bool gradient, T* sums) {
    constexpr index_t L = kLanes<T>, G = kGroup<T>;
    const Vec<T> lane = lanes<T>(), nothing = splat(-std::numeric_limits<T>::infinity());
    Score score;
    for (index_t r = 0; r < rows; r++) {
        T* row = z + r * ld;
        const index_t label = labels[order ? order[r] : r];
        const T weight = weights ? weights[order ? order[r] : r] : T(1);
        const bool known = label >= 0 && label < classes;
        const double target = known ? double(row[label]) : kNaN;
        if (!gradient && known && first_largest(row, classes) == label) score.right += double(weight);
        Vec<T> top[kRegisters], total[kRegisters] = {};
        for (Vec<T>& part : top) part = nothing;
        for (index_t j = 0; j < classes; j += G)
            for (int i = 0; i < kRegisters; i++) {
                const index_t at = j + i * L;
                top[i] = larger<T>(top[i], lane + T(at) < T(classes) ? load(row + at) : nothing);
            }
        const T largest = max_group<T>(top);
        for (index_t j = 0; j < classes; j += G)
            for (int i = 0; i < kRegisters; i++) {
                const index_t at = j + i * L;
                const Vec<T> e = lane + T(at) < T(classes) ? exponential(load(row + at) - largest) : Vec<T>{};
                store(row + at, e);
                total[i] += e;
            }
        sums[r] = sum_group<T>(total);
        score.loss += double(weight) * (double(largest) - target);
        if (!gradient) continue;
        const T part = scale * weight, share = part / sums[r];
        for (index_t j = 0; j < classes; j += L) store(row + j, load(row + j) * share);
        if (known) row[label] -= part;
    }
    for (index_t r = rows; r % L; r++) sums[r] = T(1);
    for (index_t r = 0; r < rows; r += L) {
        const Vec<T> log = logarithm(load(sums + r));
        for (index_t i = 0; i < L; i++) {
            const index_t at = r + i < rows ? r + i : rows - 1;  // beyond the rows the logarithm is 0
            score.loss += double(weights ? weights[order ? order[at] : at] : T(1)) * double(log[i]);
        }
    }
    return score;
}

// loss_r = (z_r - y_r)^2
template <class T>
Score squared_error(T* z, index_t ld, index_t rows, const T* targets, const T* weights, const index_t* order, T scale,
                    bool gradient) {
    Score score;
    for (index_t r = 0; r < rows; r++) {
        const T miss = z[r * ld] - targets[order ? order[r] : r];
        const T weight = weights ? weights[order ? order[r] : r] : T(1);
        score.loss += double(weight) * double(miss) * double(miss);
        if (gradient) z[r * ld] = T(2) * scale * weight * miss;
    }
    return score;
}

// ---- the update rule (models/update.py), s being 0 or 1 --------------------------------------------------------------

template <class T> struct Rule {
    T keep, coupled, b1, cg, b2, rest, c2, eps, step;  // keep = 1 - lr * wd_decoupled, rest = 1 - b2, step = lr * c1
    bool nesterov;
};

template <class T, bool Momentum, bool Scaled>
void update(const Rule<T>& rule, T clip, index_t n, T* theta, T* m, T* v, const T* g) {
    for (index_t i = 0; i < n; i += kLanes<T>) {
        const Vec<T> weight = load(theta + i) * rule.keep;
        const Vec<T> d = fused<T>(weight, rule.coupled, load(g + i) * clip);
        Vec<T> direction = rule.cg * d;
        if (Momentum) {
            const Vec<T> moment = fused<T>(load(m + i), rule.b1, direction);
            store(m + i, moment);
            direction = rule.nesterov ? fused<T>(moment, rule.b1, d) : moment;
        }
        if (Scaled) {
            const Vec<T> square = fused(rule.rest * d, d, rule.b2 * load(v + i));
            store(v + i, square);
            direction = direction / (root<T>(square * rule.c2) + rule.eps);
        }
        store(theta + i, fused<T>(direction, -rule.step, weight));
    }
}

// |g|; n: a multiple of the group
template <class T> double norm(const T* g, index_t n) {
    constexpr index_t L = kLanes<T>, G = kGroup<T>;
    Vec<T> sum[4][kRegisters] = {};
    index_t i = 0;
    for (; i + 4 * G <= n; i += 4 * G)
        for (index_t j = 0; j < 4; j++)
            for (int k = 0; k < kRegisters; k++) {
                const Vec<T> x = load(g + i + j * G + k * L);
                sum[j][k] = fused(x, x, sum[j][k]);
            }
    for (; i < n; i += G)
        for (int k = 0; k < kRegisters; k++) {
            const Vec<T> x = load(g + i + k * L);
            sum[0][k] = fused(x, x, sum[0][k]);
        }
    double total = 0.0;
    for (index_t j = 0; j < 4; j++) total += double(sum_group<T>(sum[j]));
    return std::sqrt(total);
}

// b^n by squaring, in the same operations on every processor, whatever the C library's pow does
inline double power(double b, index_t n) {
    long double square = b, product = 1.0;
    for (; n > 0; n /= 2, square *= square)
        if (n % 2) product *= square;
    return double(product);
}

}  // namespace
