// Activations of whole layers, and their slopes.
#pragma once

#include "native_simd.h"

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
template <class T> struct Mish {  // x tanh(log(1 + e^x)) = x n / (n + 2) with n = e^x (e^x + 2)
    static constexpr bool kFromInput = true;
    static INLINE Vec<T> value(Vec<T> x, Vec<T>& slope) {
        const T far = T(20), least = sizeof(T) == 4 ? T(-87.3) : T(-708.0);  // where it is x, and where e^x is 0
        const Vec<T> power = exponential(x > far ? splat(far) : x), e = x < least ? Vec<T>{} : power;
        const Vec<T> n = e * (e + T(2)), below = n + T(2), share = n / below;
        slope = x > far ? share : fused(x, T(4) * e * (e + T(1)) / (below * below), share);
        return x * share;
    }
    static INLINE Vec<T> slope(Vec<T> a) { return a; }
};
template <class T> struct Selu {
    static constexpr bool kFromInput = false;
    static constexpr T kScale = T(1.0507009873554804934193349852946), kAlpha = T(1.7580993408473768599402175208123);
    static INLINE Vec<T> value(Vec<T> x, Vec<T>&) { return x > T(0) ? x * kScale : expm1_(x) * kAlpha; }
    static INLINE Vec<T> slope(Vec<T> a) { return a > T(0) ? splat(kScale) : a + kAlpha; }
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

// slope <- f', from the value z where f gives it so
template <class T, class F> void slopes_with(const T* z, T* slope, index_t n) {
    for (index_t i = 0; i < n && !F::kFromInput; i += kLanes<T>) store(slope + i, F::slope(load(z + i)));
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
        case 7: CALL(Mish<T>); break;           \
        case 8: CALL(Selu<T>); break;           \
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

template <class T> void keep_slopes(index_t activation, const T* z, T* slope, index_t n) {
#define CALL(F) slopes_with<T, F>(z, slope, n)
    FOR_ACTIVATION(CALL)
#undef CALL
}

// a <- delta * slope, the gradient of what went into the activation, where slope holds all of f' and any mask
template <class T> void retreat_by_slope(T* a, const T* slope, const T* delta, index_t n) {
    for (index_t i = 0; i < n; i += kLanes<T>) store(a + i, load(delta + i) * load(slope + i));
}

template <class T> void add_to(T* a, const T* b, index_t n) {
    for (index_t i = 0; i < n; i += kLanes<T>) store(a + i, load(a + i) + load(b + i));
}

}  // namespace
