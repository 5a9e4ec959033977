// Vector registers as a C++ type: loads, folds, transposition, and the functions an MLP needs, lane by lane.
//
// Every variant with fused multiply-add gives the same bits: memory is laid out, and sums are folded, in groups of 64
// bytes, which are one register or several; a product is fused with a sum where `fused` says so and nowhere else
// (-ffp-contract=off); and functions are polynomials of this file (errors of a few units in the last place), since
// the C library takes other code on other processors.
// NaN goes through every one of them: a select keeps its argument when the comparison is false.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
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
template <class T> constexpr int kGroup = 64 / int(sizeof(T));  // numbers of a group, on every processor
constexpr int kRegisters = 64 / SIMD_BYTES;                     // registers of a group
using VF = Vec<float>;
using VD = Vec<double>;

template <class T> INLINE Vec<T> load(const T* p) { return *reinterpret_cast<const typename Lanes<T>::Loose*>(p); }
template <class T> INLINE void store(T* p, Vec<T> x) { *reinterpret_cast<typename Lanes<T>::Loose*>(p) = x; }
template <class T> INLINE Vec<T> splat(T x) { return x - Vec<T>{}; }
template <class T> INLINE Vec<T> lanes() {  // 0 1 2 ..
    Vec<T> lane;
    for (int i = 0; i < kLanes<T>; i++) lane[i] = T(i);
    return lane;
}
template <class T> INLINE Vec<T> larger(Vec<T> a, Vec<T> b) { return a > b ? a : b; }

// a * b + c, rounded once where the processor can
#if defined(__AVX512F__)
INLINE VF fused(VF a, VF b, VF c) { return (VF)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
INLINE VD fused(VD a, VD b, VD c) { return (VD)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
#elif defined(__FMA__)
INLINE VF fused(VF a, VF b, VF c) { return (VF)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
INLINE VD fused(VD a, VD b, VD c) { return (VD)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
#elif defined(__aarch64__)
INLINE VF fused(VF a, VF b, VF c) { return (VF)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INLINE VD fused(VD a, VD b, VD c) { return (VD)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
#else
INLINE VF fused(VF a, VF b, VF c) { return a * b + c; }
INLINE VD fused(VD a, VD b, VD c) { return a * b + c; }
#endif
template <class T> INLINE Vec<T> fused(Vec<T> a, Vec<T> b, T c) { return fused(a, b, splat<T>(c)); }
template <class T> INLINE Vec<T> fused(Vec<T> a, T b, Vec<T> c) { return fused(a, splat<T>(b), c); }
template <class T> INLINE Vec<T> fused(Vec<T> a, T b, T c) { return fused(a, splat<T>(b), splat<T>(c)); }

// coefficients[0] is that of the highest power
template <class T, std::size_t N> INLINE Vec<T> polynomial(Vec<T> x, const T (&coefficients)[N]) {
    Vec<T> sum = splat<T>(coefficients[0]);
#pragma GCC unroll 20
    for (std::size_t i = 1; i < N; i++) sum = fused(sum, x, splat<T>(coefficients[i]));
    return sum;
}

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

// the numbers of a group in one order, whatever registers it lies in: halves onto each other until one is left
template <class T> INLINE T sum_group(Vec<T> (&part)[kRegisters]) {
    for (int n = kRegisters / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++) part[i] += part[i + n];
    Vec<T> x = part[0];
#pragma GCC unroll 4
    for (int by = kLanes<T> / 2; by > 0; by /= 2) x += rotate<T>(x, by);
    return x[0];
}

template <class T> INLINE T max_group(Vec<T> (&part)[kRegisters]) {
    for (int n = kRegisters / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++) part[i] = larger<T>(part[i], part[i + n]);
    Vec<T> x = part[0];
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
    const VF biased = fused<float>(x, 1.44269504f, shift), n = biased - shift;
    const VF r = fused<float>(n, -1.42860677e-6f, fused<float>(n, -0.693145752f, x));
    const VF q = polynomial<float>(r, {1.3947598e-3f, 8.3672468e-3f, 4.16662665e-2f, 1.6666538e-1f, 0.5f});
    p = fused(q, r * r, r);
    scale = (VF)(((IntVec<float>)biased << 23) + (127 << 23));
}
INLINE void exp_parts(VD x, VD& p, VD& scale) {  // the Taylor series of exp on |r| < 0.347
    const double shift = 6755399441055744.0;     // 1.5 * 2^52
    x = x > 709.0 ? splat(709.0) : x;
    x = x < -708.0 ? splat(-708.0) : x;
    const VD biased = fused<double>(x, 1.4426950408889634, shift), n = biased - shift;
    const VD r = fused<double>(n, -1.9082149292705877e-10, fused<double>(n, -0.6931471803691238, x));
    const VD q = polynomial<double>(r, {1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0,
                                        1.0 / 362880.0, 1.0 / 40320.0, 1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0,
                                        1.0 / 24.0, 1.0 / 6.0, 0.5});
    p = fused(q, r * r, r);
    scale = (VD)(((IntVec<double>)biased << 52) + (std::int64_t(1023) << 52));
}

template <class V> INLINE V exponential(V x) {
    V p, scale;
    exp_parts(x, p, scale);
    return fused(scale, p, scale);
}

template <class V> INLINE V expm1_(V x) {
    V p, scale;
    exp_parts(x, p, scale);
    return fused(scale, p, scale - 1.0f);
}

template <class V> INLINE V tanh_(V x) {  // e / (e + 2) with e = exp(2x) - 1, which is exact where x is small
    const V e = expm1_(x + x);
    return e / (e + 2.0f);
}

template <class V> INLINE V sigmoid(V x) { return 1.0f / (1.0f + exponential(-x)); }

INLINE VF erf_(VF x) {  // rational minimax fit on |x| <= 3.92, where erf rounds to 1
    x = x > 3.92f ? splat(3.92f) : x;
    x = x < -3.92f ? splat(-3.92f) : x;
    const VF z = x * x;
    const VF p = polynomial<float>(z, {2.050093317e-6f, 2.848812959e-4f, 3.765562661e-3f, 5.274855099e-2f,
                                       1.904052339e-1f, 1.128379146f});
    const VF q = polynomial<float>(z, {3.809170452e-5f, 1.162522043e-3f, 1.496910656e-2f, 1.141085943e-1f,
                                       5.020749861e-1f, 1.0f});
    return x * p / q;
}
INLINE VD erf_(VD x) {  // up to |x| = 1 the Taylor series; then 1 - exp(-x^2) g, up to 6, where erf rounds to 1
    const VD size = x < 0.0 ? -x : x, y = size > 6.0 ? splat(6.0) : size, z = x * x;
    const VD near = polynomial<double>(
        z, {4.763348040515068e-18, -9.063970842808673e-17, 1.6342614095367152e-15, -2.7835162072109215e-14,
             4.4632242632864775e-13, -6.7113668551641105e-12, 9.422759064650411e-11, -1.2290555301717928e-09,
             1.4807192815879218e-08, -1.6365844691234924e-07, 1.6462114365889248e-06, -1.492565035840625e-05,
             0.00012055332981789664, -0.0008548327023450853, 0.005223977625442188, -0.026866170645131252,
             0.11283791670955126, -0.37612638903183754, 1.1283791670955126});
    // g(x) = exp(x^2) erfc(x) as a Chebyshev fit in (x - 3) / (x + 3) on 1 <= x <= 6, error 6e-18
    const VD g = polynomial<double>(
        (y - 3.0) / (y + 3.0),
        {3.381355142042904e-09, 1.2755818949624478e-06, 2.0135111426447427e-06, -8.00978093907608e-06,
             -1.2845780030775907e-05, 6.406279226046039e-05, 4.525434558991009e-05, -0.0005970624964924544,
             0.0007077464666941425, 0.004269136356961225, -0.024392499318915004, 0.07166583719747308,
             -0.15011593650077898, 0.24560380171233487, -0.3262335600430372, 0.17900115118138996});
    const VD far = 1.0 - exponential(-(y * y)) * g;
    return size < 1.0 ? x * near : x < 0.0 ? -far : x == x ? far : x;
}

INLINE VF logarithm(VF x) {  // normal x > 0: m * 2^k with m in [sqrt(1/2), sqrt(2))
    const IntVec<float> k = ((IntVec<float>)x - 0x3f3504f3) >> 23;
    const VF f = (VF)((IntVec<float>)x - (k << 23)) - 1.0f;
    const VF q = polynomial<float>(f, {-7.8596115e-2f, 1.28816475e-1f, -1.31287548e-1f, 1.41811919e-1f,
                                       -1.66245540e-1f, 2.00022863e-1f, -2.50008104e-1f, 3.33333167e-1f});
    const VF exponent = __builtin_convertvector(k, VF);
    const VF log = fused<float>(exponent, 0.693147181f, fused(f * f, fused<float>(q, f, -0.5f), f));
    return x == x ? log : x;
}
INLINE VD logarithm(VD x) {  // log m = f - f^2/2 + s (f^2/2 + 2 (s^2/3 + s^4/5 + ..)), s = f / (2 + f), |s| < 0.172
    const IntVec<double> k = ((IntVec<double>)x - 0x3fe6a09e667f3bcd) >> 52;
    const VD f = (VD)((IntVec<double>)x - (k << 52)) - 1.0, s = f / (f + 2.0), z = s * s, half = 0.5 * f * f;
    const VD q = polynomial<double>(z, {2.0 / 23.0, 2.0 / 21.0, 2.0 / 19.0, 2.0 / 17.0, 2.0 / 15.0, 2.0 / 13.0,
                                        2.0 / 11.0, 2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0});
    const VD exponent = __builtin_convertvector(k, VD);
    const VD low = fused(s, fused(q, z, half), exponent * 1.9082149292705877e-10);
    const VD log = fused<double>(exponent, 0.6931471803691238, f - (half - low));
    return x == x ? log : x;
}

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
