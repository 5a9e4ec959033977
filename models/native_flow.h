// Statistics of a measured step: norms of layers, and what the activations of a batch were like.
#pragma once

#include <limits>

#include "native_losses.h"

namespace {

constexpr index_t kStatistics = 7;   // in the order of models.config.FLOW_STATISTICS
constexpr double kSaturated = 0.95;  // models.gradient_flow.SATURATED

// factor * h - shift lies in (-1, 1) for a bounded activation; factor 0: it is not one
struct Bounded {
    double factor = 0.0, shift = 0.0;
};

inline Bounded bounded(index_t activation) {
    return activation == 1 ? Bounded{1.0, 0.0} : activation == 2 ? Bounded{2.0, 1.0} : Bounded{};
}

// sums over the activations of a layer in a batch, of their distance from `shift`, so that equal ones have no variance
struct Tally {
    double shift = 0.0, sum = 0.0, squares = 0.0, saturated = 0.0;
};

// Adds the activations z (rows x columns, `ld` apart) to the tally and keeps the largest of each column in `peak`.
template <class T>
void tally_outputs(const T* z, index_t ld, index_t rows, index_t columns, Bounded bound, bool first, T* peak,
                   Tally& tally) {
    constexpr index_t L = kLanes<T>, G = kGroup<T>;
    const Vec<T> lane = lanes<T>(), shift = splat(T(tally.shift)), lowest = splat(-std::numeric_limits<T>::infinity());
    const T factor = T(bound.factor), centre = T(bound.shift);
    for (index_t c = 0; c < columns; c += G) {
        Vec<T> sum[kRegisters] = {}, squares[kRegisters] = {}, far[kRegisters] = {};
        for (int i = 0; i < kRegisters; i++) {
            const index_t at = c + i * L;
            const auto inside = lane + T(at) < T(columns);
            Vec<T> top = first ? lowest : load(peak + at);
            for (index_t r = 0; r < rows; r++) {
                const Vec<T> h = load(z + r * ld + at), away = h - shift, place = fused<T>(h, factor, splat(-centre));
                sum[i] += away;
                squares[i] = fused(away, away, squares[i]);
                far[i] += place * place > T(kSaturated) ? splat(T(1)) : Vec<T>{};
                top = larger<T>(top, h);
            }
            store(peak + at, top);
            sum[i] = inside ? sum[i] : Vec<T>{};
            squares[i] = inside ? squares[i] : Vec<T>{};
            far[i] = inside ? far[i] : Vec<T>{};
        }
        tally.sum += double(sum_group<T>(sum));
        tally.squares += double(sum_group<T>(squares));
        tally.saturated += double(sum_group<T>(far));
    }
}

// the share of units whose largest activation is 0
template <class T> double dead_share(const T* peak, index_t units) {
    index_t dead = 0;
    for (index_t i = 0; i < units; i++) dead += peak[i] <= T(0);
    return double(dead) / double(units);
}

typedef float HalfOfFloats __attribute__((vector_size(SIMD_BYTES / 2)));

// the lower (half=0) or upper (half=1) lanes of x
INLINE VD widened(VF x, int half) {
    HalfOfFloats part;
    std::memcpy(&part, reinterpret_cast<const char*>(&x) + half * (SIMD_BYTES / 2), sizeof part);
    return __builtin_convertvector(part, VD);
}

// |a|, or |a - b|, summed in double: the square of a vanishing float would be zero. n: a multiple of the group.
template <bool Difference> double wide_norm(const double* a, const double* b, index_t n) {
    constexpr index_t L = kLanes<double>;
    VD sums[kRegisters] = {};
    for (index_t i = 0; i < n; i += kGroup<double>)
        for (int k = 0; k < kRegisters; k++) {
            const VD x = Difference ? load(a + i + k * L) - load(b + i + k * L) : load(a + i + k * L);
            sums[k] = fused(x, x, sums[k]);
        }
    return std::sqrt(sum_group<double>(sums));
}
template <bool Difference> double wide_norm(const float* a, const float* b, index_t n) {
    constexpr index_t L = kLanes<float>;
    VD sums[2 * kRegisters] = {};  // of a group of floats, which is two of doubles
    for (index_t i = 0; i < n; i += kGroup<float>)
        for (int k = 0; k < 2 * kRegisters; k++) {
            VD x = widened(load(a + i + k / 2 * L), k % 2);
            if (Difference) x -= widened(load(b + i + k / 2 * L), k % 2);
            sums[k] = fused(x, x, sums[k]);
        }
    VD both[kRegisters];
    for (int k = 0; k < kRegisters; k++) both[k] = sums[k] + sums[k + kRegisters];
    return std::sqrt(sum_group<double>(both));
}

}  // namespace
