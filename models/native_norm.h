// Normalisation of a layer's outputs: z <- scale (z - mean) / sqrt(variance + eps) + shift, with mean and variance over
// the units of an example (layer normalisation) or over the examples of a minibatch (batch normalisation).
//
// Both keep `centred`, (z - mean) / deviation, and `inverse`, 1 / deviation, for the way back. z is (rows x units), `ld`
// apart; with n = centred and g = dy scale:  dz = (g - mean g - n mean(g n)) / deviation
#pragma once

#include <cmath>

#include "native_losses.h"

namespace {

constexpr double kNormEps = 1e-5, kMomentum = 0.1;  // torch's own

template <class T>
void normalise_layer(T* z, index_t ld, index_t rows, index_t units, const T* scale, const T* shift, T* centred,
                     T* inverse) {
    constexpr index_t L = kLanes<T>, G = kGroup<T>;
    const Vec<T> lane = lanes<T>();
    for (index_t r = 0; r < rows; r++) {
        T *row = z + r * ld, *away = centred + r * ld;
        const T mean = mean_output(row, units);
        Vec<T> squares[kRegisters] = {};
        for (index_t c = 0; c < units; c += G)
            for (int i = 0; i < kRegisters; i++) {
                const index_t at = c + i * L;
                const Vec<T> x = lane + T(at) < T(units) ? load(row + at) - mean : Vec<T>{};
                store(away + at, x);
                squares[i] = fused(x, x, squares[i]);
            }
        inverse[r] = T(1) / std::sqrt(sum_group<T>(squares) / T(units) + T(kNormEps));
        for (index_t at = 0; at < units; at += L) {
            const Vec<T> x = load(away + at) * inverse[r];
            store(away + at, x);
            store(row + at, fused(x, load(scale + at), load(shift + at)));
        }
    }
}

// From dy, the gradient of what was given, to that of z, in place; `add`s those of scale and shift up.
template <class T>
void layer_backward(T* dy, index_t ld, index_t rows, index_t units, const T* scale, const T* centred, const T* inverse,
                    bool add, T* scale_gradient, T* shift_gradient) {
    constexpr index_t L = kLanes<T>, G = kGroup<T>;
    const Vec<T> lane = lanes<T>();
    for (index_t r = 0; r < rows; r++) {
        T* row = dy + r * ld;
        const T* n = centred + r * ld;
        const bool first = r == 0 && !add;
        Vec<T> sums[kRegisters] = {}, along[kRegisters] = {};
        for (index_t c = 0; c < units; c += G)
            for (int i = 0; i < kRegisters; i++) {
                const index_t at = c + i * L;
                const Vec<T> x = load(n + at), d = load(row + at), g = d * load(scale + at);
                store(scale_gradient + at, fused(d, x, first ? Vec<T>{} : load(scale_gradient + at)));
                store(shift_gradient + at, first ? d : load(shift_gradient + at) + d);
                sums[i] += g;
                along[i] = fused(g, x, along[i]);
                store(row + at, g);
            }
        const T mean = sum_group<T>(sums) / T(units), part = -(sum_group<T>(along) / T(units));
        for (index_t at = 0; at < units; at += L) {
            const Vec<T> dz = fused<T>(load(n + at), part, load(row + at) - mean) * inverse[r];
            store(row + at, lane + T(at) < T(units) ? dz : Vec<T>{});
        }
    }
}

// In training; `running` mean and variance of each unit follow those of the minibatch.
template <class T>
void normalise_batch(T* z, index_t ld, index_t rows, index_t units, const T* scale, const T* shift, T* centred,
                     T* inverse, T* running_mean, T* running_variance) {
    constexpr index_t L = kLanes<T>;
    for (index_t c = 0; c < units; c += L) {
        Vec<T> sum{}, squares{};
        for (index_t r = 0; r < rows; r++) sum += load(z + r * ld + c);
        const Vec<T> mean = sum / T(rows);
        for (index_t r = 0; r < rows; r++) {
            const Vec<T> x = load(z + r * ld + c) - mean;
            store(centred + r * ld + c, x);
            squares = fused(x, x, squares);
        }
        const Vec<T> away = T(1) / root<T>(squares / T(rows) + T(kNormEps)), old_mean = load(running_mean + c);
        const Vec<T> old_variance = load(running_variance + c);
        store(inverse + c, away);
        store(running_mean + c, fused<T>(mean - old_mean, T(kMomentum), old_mean));
        store(running_variance + c, fused<T>(squares / T(rows - 1) - old_variance, T(kMomentum), old_variance));
        const Vec<T> factor = load(scale + c), summand = load(shift + c);
        for (index_t r = 0; r < rows; r++) {
            const Vec<T> x = load(centred + r * ld + c) * away;
            store(centred + r * ld + c, x);
            store(z + r * ld + c, fused(x, factor, summand));
        }
    }
}

// In evaluation, with the running statistics.
template <class T>
void normalise_running(T* z, index_t ld, index_t rows, index_t units, const T* scale, const T* shift, const T* mean,
                       const T* variance) {
    constexpr index_t L = kLanes<T>;
    for (index_t c = 0; c < units; c += L) {
        const Vec<T> away = T(1) / root<T>(load(variance + c) + T(kNormEps)), centre = load(mean + c);
        const Vec<T> factor = load(scale + c), summand = load(shift + c);
        for (index_t r = 0; r < rows; r++)
            store(z + r * ld + c, fused((load(z + r * ld + c) - centre) * away, factor, summand));
    }
}

template <class T>
void batch_backward(T* dy, index_t ld, index_t rows, index_t units, const T* scale, const T* centred, const T* inverse,
                    T* scale_gradient, T* shift_gradient) {
    constexpr index_t L = kLanes<T>;
    for (index_t c = 0; c < units; c += L) {
        Vec<T> along{}, sum{};
        for (index_t r = 0; r < rows; r++) {
            const Vec<T> d = load(dy + r * ld + c);
            along = fused(d, load(centred + r * ld + c), along);
            sum += d;
        }
        store(scale_gradient + c, along);
        store(shift_gradient + c, sum);
        const Vec<T> factor = load(scale + c), mean = sum * factor / T(rows), part = -(along * factor / T(rows));
        const Vec<T> away = load(inverse + c);
        for (index_t r = 0; r < rows; r++) {
            const Vec<T> g = load(dy + r * ld + c) * factor - mean;
            store(dy + r * ld + c, fused(load(centred + r * ld + c), part, g) * away);
        }
    }
}

}  // namespace
