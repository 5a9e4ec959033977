// Layer normalisation of the rows of a chunk: z <- scale (z - mean) / sqrt(variance + eps) + shift, with mean and
// variance over the units of an example.
#pragma once

#include <cmath>

#include "native_losses.h"

namespace {

constexpr double kNormEps = 1e-5;  // torch's own

// z (rows x units, `ld` apart) in place; keeps `centred`, (z - mean) / deviation, and `inverse`, 1 / deviation
template <class T>
void normalise(T* z, index_t ld, index_t rows, index_t units, const T* scale, const T* shift, T* centred, T* inverse) {
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

// From dy, the gradient of what `normalise` gave, to that of what it got, in place; `add`s those of scale and shift up.
//   with n = centred and g = dy scale:  dz = (g - mean g - n mean(g n)) / deviation
template <class T>
void normalise_backward(T* dy, index_t ld, index_t rows, index_t units, const T* scale, const T* centred,
                        const T* inverse, bool add, T* scale_gradient, T* shift_gradient) {
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

}  // namespace
