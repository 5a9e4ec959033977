// Vector registers as a C++ type: loads, folds, transposition, and the functions an MLP needs, lane by lane.
//
// float functions are polynomial (errors of a few units in the last place), double ones call the C library.
// NaN goes through every one of them: a select keeps its argument when the comparison is false.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define SIMD_BYTES 64
#elif defined(__AVX__)
#define SIMD_BYTES 32
#else
#define SIMD_BYTES 16
#endif

#define INLINE inline __attribute__((always_inline))

namespace {

using index_t = std::int64_t;

template <class T> struct Lanes;
template <> struct Lanes<float> {
    typedef float V __attribute__((vector_size(SIMD_BYTES)));
    typedef float Loose __attribute__((vector_size(SIMD_BYTES), aligned(4), may_alias));
    typedef std::int32_t Int __attribute__((vector_size(SIMD_BYTES)));
};
template <> struct Lanes<double> {
    typedef double V __attribute__((vector_size(SIMD_BYTES)));
    typedef double Loose __attribute__((vector_size(SIMD_BYTES), aligned(8), may_alias));
    typedef std::int64_t Int __attribute__((vector_size(SIMD_BYTES)));
};
template <class T> using Vec = typename Lanes<T>::V;
template <class T> using IntVec = typename Lanes<T>::Int;
template <class T> constexpr int kLanes = SIMD_BYTES / int(sizeof(T));
using VF = Vec<float>;
using VD = Vec<double>;

template <class T> INLINE Vec<T> load(const T* p) { return *reinterpret_cast<const typename Lanes<T>::Loose*>(p); }
template <class T> INLINE void store(T* p, Vec<T> x) { *reinterpret_cast<typename Lanes<T>::Loose*>(p) = x; }
template <class T> INLINE Vec<T> splat(T x) { return Vec<T>{} + x; }
template <class T> INLINE Vec<T> larger(Vec<T> a, Vec<T> b) { return a > b ? a : b; }

// ---- shuffles: fold a vector to one number, transpose a block -------------------------------------------------------

template <class T> INLINE Vec<T> rotate(Vec<T> x, int by) {
    IntVec<T> from;
    for (int i = 0; i < kLanes<T>; i++) from[i] = (i + by) % kLanes<T>;
#if defined(__clang__)
    Vec<T> y;
    for (int i = 0; i < kLanes<T>; i++) y[i] = x[from[i]];
    return y;
#else
    return __builtin_shuffle(x, from);
#endif
}

template <class T> INLINE T sum_lanes(Vec<T> x) {
#pragma GCC unroll 4
    for (int by = kLanes<T> / 2; by > 0; by /= 2) x += rotate<T>(x, by);
    return x[0];
}

template <class T> INLINE T max_lanes(Vec<T> x) {
#pragma GCC unroll 4
    for (int by = kLanes<T> / 2; by > 0; by /= 2) x = larger<T>(x, rotate<T>(x, by));
    return x[0];
}

// a0 b0 a1 b1 .. from the lower (half=0) or upper (half=1) halves of a and b
template <class T> INLINE Vec<T> interleave(Vec<T> a, Vec<T> b, int half) {
    constexpr int n = kLanes<T>;
#if defined(__clang__)
    Vec<T> y;
    for (int i = 0; i < n; i++) y[i] = (i % 2 ? b : a)[half * n / 2 + i / 2];
    return y;
#else
    IntVec<T> from;
    for (int i = 0; i < n; i++) from[i] = half * n / 2 + i / 2 + (i % 2) * n;
    return __builtin_shuffle(a, b, from);
#endif
}

// r[i][j] -> r[j][i] for a square block held in registers, by log2(lanes) perfect shuffles of its rows
template <class T> INLINE void transpose_registers(Vec<T>* r) {
    constexpr int n = kLanes<T>;
    Vec<T> t[n];
#pragma GCC unroll 4
    for (int stage = 1; stage < n; stage *= 2) {
#pragma GCC unroll 16
        for (int i = 0; i < n / 2; i++) {
            t[2 * i] = interleave<T>(r[i], r[i + n / 2], 0);
            t[2 * i + 1] = interleave<T>(r[i], r[i + n / 2], 1);
        }
#pragma GCC unroll 16
        for (int i = 0; i < n; i++) r[i] = t[i];
    }
}

// dst[j][i] = src[i][j] for a block of at most lanes x lanes. Of src, rows x cols exist (zeros beyond); of dst,
// dst_rows x dst_cols are written.
template <class T>
void transpose_block(const T* src, index_t lds, index_t rows, index_t cols, T* dst, index_t ldd, index_t dst_rows,
                     index_t dst_cols) {
    constexpr index_t n = kLanes<T>;
    Vec<T> r[n];
    if (rows >= n && cols >= n) {
#pragma GCC unroll 16
        for (index_t i = 0; i < n; i++) r[i] = load(src + i * lds);
    } else {
        for (index_t i = 0; i < n; i++) {
            r[i] = Vec<T>{};
            if (i < rows) std::memcpy(&r[i], src + i * lds, sizeof(T) * size_t(cols < n ? cols : n));
        }
    }
    transpose_registers<T>(r);
    if (dst_rows >= n && dst_cols >= n) {
#pragma GCC unroll 16
        for (index_t i = 0; i < n; i++) store(dst + i * ldd, r[i]);
    } else {
        for (index_t i = 0; i < n && i < dst_rows; i++)
            std::memcpy(dst + i * ldd, &r[i], sizeof(T) * size_t(dst_cols < n ? dst_cols : n));
    }
}

// ---- functions ------------------------------------------------------------------------------------------------------

// exp(x) = scale * (1 + p) with |p| < 0.42, x clamped to where scale is a normal number
INLINE void exp_parts(VF x, VF& p, VF& scale) {
    const float shift = 12582912.0f;  // 1.5 * 2^23: adding it leaves the rounded integer in the low bits
    x = x > 88.0f ? splat(88.0f) : x;
    x = x < -87.3f ? splat(-87.3f) : x;
    const VF biased = x * 1.44269504f + shift;
    const VF n = biased - shift;
    const VF r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
    VF q = splat(1.3947598e-3f);
    q = q * r + 8.3672468e-3f;
    q = q * r + 4.16662665e-2f;
    q = q * r + 1.6666538e-1f;
    q = q * r + 0.5f;
    p = q * (r * r) + r;
    scale = (VF)(((IntVec<float>)biased << 23) + (127 << 23));
}

INLINE VF exponential(VF x) {
    VF p, scale;
    exp_parts(x, p, scale);
    return scale * p + scale;
}

INLINE VF expm1_(VF x) {
    VF p, scale;
    exp_parts(x, p, scale);
    return scale * p + (scale - 1.0f);
}

INLINE VF tanh_(VF x) {  // e / (e + 2) with e = exp(2x) - 1, which is exact where x is small
    const VF e = expm1_(x + x);
    return e / (e + 2.0f);
}

INLINE VF sigmoid(VF x) { return 1.0f / (1.0f + exponential(-x)); }

INLINE VF erf_(VF x) {  // rational minimax fit on |x| <= 3.92, where erf rounds to 1
    x = x > 3.92f ? splat(3.92f) : x;
    x = x < -3.92f ? splat(-3.92f) : x;
    const VF z = x * x;
    VF p = splat(2.050093317e-6f), q = splat(3.809170452e-5f);
    p = p * z + 2.848812959e-4f, q = q * z + 1.162522043e-3f;
    p = p * z + 3.765562661e-3f, q = q * z + 1.496910656e-2f;
    p = p * z + 5.274855099e-2f, q = q * z + 1.141085943e-1f;
    p = p * z + 1.904052339e-1f, q = q * z + 5.020749861e-1f;
    p = p * z + 1.128379146f, q = q * z + 1.0f;
    return x * p / q;
}

INLINE VF logarithm(VF x) {  // normal x > 0: m * 2^k with m in [sqrt(1/2), sqrt(2))
    const IntVec<float> k = ((IntVec<float>)x - 0x3f3504f3) >> 23;
    const VF f = (VF)((IntVec<float>)x - (k << 23)) - 1.0f;
    VF q = splat(-7.8596115e-2f);
    q = q * f + 1.28816475e-1f;
    q = q * f - 1.31287548e-1f;
    q = q * f + 1.41811919e-1f;
    q = q * f - 1.66245540e-1f;
    q = q * f + 2.00022863e-1f;
    q = q * f - 2.50008104e-1f;
    q = q * f + 3.33333167e-1f;
    const VF z = f * f, exponent = __builtin_convertvector(k, VF);
    const VF log = exponent * 0.693147181f + (f + z * (q * f - 0.5f));
    return x == x ? log : x;
}

template <double (*F)(double)> INLINE VD each(VD x) {
    for (int i = 0; i < kLanes<double>; i++) x[i] = F(x[i]);
    return x;
}
INLINE VD exponential(VD x) { return each<std::exp>(x); }
INLINE VD expm1_(VD x) { return each<std::expm1>(x); }
INLINE VD tanh_(VD x) { return each<std::tanh>(x); }
INLINE VD erf_(VD x) { return each<std::erf>(x); }
INLINE VD logarithm(VD x) { return each<std::log>(x); }
INLINE VD sigmoid(VD x) { return 1.0 / (1.0 + exponential(-x)); }

// 1 / (sqrt(x) + eps) for x >= 0
template <class T> INLINE Vec<T> root(Vec<T> x) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) return (Vec<T>)_mm512_sqrt_ps((__m512)x);
    else return (Vec<T>)_mm512_sqrt_pd((__m512d)x);
#elif defined(__AVX__)
    if constexpr (sizeof(T) == 4) return (Vec<T>)_mm256_sqrt_ps((__m256)x);
    else return (Vec<T>)_mm256_sqrt_pd((__m256d)x);
#else
    for (int i = 0; i < kLanes<T>; i++) x[i] = std::sqrt(x[i]);
    return x;
#endif
}

}  // namespace
