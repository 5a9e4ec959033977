// The losses of the rows of a chunk, and their gradients.
#pragma once

#include <limits>

#include "native_simd.h"

namespace {

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

// the mean of the first `classes` numbers of a row
template <class T> T mean_output(const T* row, index_t classes) {
    constexpr index_t L = kLanes<T>, G = kGroup<T>;
    const Vec<T> lane = lanes<T>();
    Vec<T> total[kRegisters] = {};
    for (index_t j = 0; j < classes; j += G)
        for (int i = 0; i < kRegisters; i++)
            total[i] += lane + T(j + i * L) < T(classes) ? load(row + j + i * L) : Vec<T>{};
    return sum_group<T>(total) / T(classes);
}

// loss_r = log(sum_j exp(z_rj)) - z_r,y; its gradient is softmax(z_r) - onehot(y). sums: room for one number a row.
// With label smoothing e, (1 - e) z_r,y + e mean_j z_rj instead of z_r,y, and (1 - e) onehot(y) + e / C of onehot(y).
template <class T>
Score cross_entropy(T* z, index_t ld, index_t rows, index_t classes, const index_t* labels, const T* weights,
                    const index_t* order, T scale, T smoothing, bool gradient, T* sums) {
    constexpr index_t L = kLanes<T>, G = kGroup<T>;
    const Vec<T> lane = lanes<T>(), nothing = splat(-std::numeric_limits<T>::infinity());
    Score score;
    for (index_t r = 0; r < rows; r++) {
        T* row = z + r * ld;
        const index_t label = labels[order ? order[r] : r];
        const T weight = weights ? weights[order ? order[r] : r] : T(1);
        const bool known = label >= 0 && label < classes;
        double target = known ? double(row[label]) : kNaN;
        if (smoothing > T(0)) target += double(smoothing) * (double(mean_output(row, classes)) - target);
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
        if (smoothing > T(0)) {
            const T even = part * smoothing / T(classes);
            for (index_t j = 0; j < classes; j++) row[j] -= even;
        }
        if (known) row[label] -= part - part * smoothing;
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

}  // namespace
