// A step of the optimizer.
#pragma once

#include "native_simd.h"

namespace {

// ---- the update rule (models/update.py), s being 0 or 1 --------------------------------------------------------------

template <class T> struct Rule {
    T keep, coupled, b1, cg, b2, rest, c2, eps, step;  // keep = 1 - lr * wd_decoupled, rest = 1 - b2, step = lr * c1
    bool blended;                                      // of d and m in these shares, else of m alone
    T share_d, share_m;
};

template <class T, bool Momentum, bool Scaled, bool Signed = false>
void update(const Rule<T>& rule, T clip, index_t n, T* theta, T* m, T* v, const T* g) {
    for (index_t i = 0; i < n; i += kLanes<T>) {
        const Vec<T> weight = load(theta + i) * rule.keep;
        const Vec<T> d = fused<T>(weight, rule.coupled, load(g + i) * clip);
        Vec<T> direction = rule.cg * d;
        if (Momentum) {
            const Vec<T> moment = fused<T>(load(m + i), rule.b1, direction);
            store(m + i, moment);
            direction = rule.blended ? fused<T>(moment, rule.share_m, rule.share_d * d) : moment;
        }
        if (Signed) direction = direction > T(0) ? splat<T>(1) : direction < T(0) ? splat<T>(-1) : splat<T>(0);
        if (Scaled) {
            const Vec<T> square = fused(rule.rest * d, d, rule.b2 * load(v + i));
            store(v + i, square);
            direction = direction / (root<T>(square * rule.c2) + rule.eps);
        }
        store(theta + i, fused<T>(direction, -rule.step, weight));
    }
}

// average <- average + fresh * (theta - average)
template <class T> void blend(T* average, const T* theta, T fresh, index_t n) {
    for (index_t i = 0; i < n; i += kLanes<T>) {
        const Vec<T> old = load(average + i);
        store(average + i, fused<T>(load(theta + i) - old, fresh, old));
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
