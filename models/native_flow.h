// Statistics of a measured step: norms of layers, and what the activations of a batch were like.
#pragma once

#include "native_mlp.h"

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
    constexpr index_t L = kLanes<T>;
    Vec<T> lane;
    for (index_t i = 0; i < L; i++) lane[i] = T(i);
    const Vec<T> shift = splat(T(tally.shift)), lowest = splat(-std::numeric_limits<T>::infinity());
    const T factor = T(bound.factor), centre = T(bound.shift);
    for (index_t c = 0; c < columns; c += L) {
        const auto inside = lane + T(c) < T(columns);
        Vec<T> sum{}, squares{}, far{}, top = first ? lowest : load(peak + c);
        for (index_t r = 0; r < rows; r++) {
            const Vec<T> h = load(z + r * ld + c), away = h - shift, place = factor * h - centre;
            sum += away;
            squares += away * away;
            far += place * place > T(kSaturated) ? splat(T(1)) : Vec<T>{};
            top = larger<T>(top, h);
        }
        store(peak + c, top);
        tally.sum += double(sum_lanes<T>(inside ? sum : Vec<T>{}));
        tally.squares += double(sum_lanes<T>(inside ? squares : Vec<T>{}));
        tally.saturated += double(sum_lanes<T>(inside ? far : Vec<T>{}));
    }
}

// the share of units whose largest activation is 0
template <class T> double dead_share(const T* peak, index_t units) {
    index_t dead = 0;
    for (index_t i = 0; i < units; i++) dead += peak[i] <= T(0);
    return double(dead) / double(units);
}

typedef float HalfOfFloats __attribute__((vector_size(SIMD_BYTES / 2)));

// the lower (half=0) or upper (half=1) lanes of x, or all of them where they are doubles already
INLINE VD widened(VF x, int half) {
    HalfOfFloats part;
    std::memcpy(&part, reinterpret_cast<const char*>(&x) + half * (SIMD_BYTES / 2), sizeof part);
    return __builtin_convertvector(part, VD);
}
INLINE VD widened(VD x, int half) { return half ? VD{} : x; }

// |a|, or |a - b|, summed in double: the square of a vanishing float would be zero. n: a multiple of the lanes.
template <class T, bool Difference> double wide_norm(const T* a, const T* b, index_t n) {
    VD sums[2] = {};
    for (index_t i = 0; i < n; i += kLanes<T>)
        for (int half = 0; half < 2; half++) {
            VD x = widened(load(a + i), half);
            if (Difference) x -= widened(load(b + i), half);
            sums[half] += x * x;
        }
    return std::sqrt(sum_lanes<double>(sums[0] + sums[1]));
}

}  // namespace
