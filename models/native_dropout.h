// Dropout from Philox4x32-10 (models/dropout.py): integers only, so that its words are the same on every processor.
#pragma once

#include <cmath>

#include "native_activations.h"

namespace {

using word_t = std::uint32_t;
typedef word_t Words __attribute__((vector_size(SIMD_BYTES)));
typedef std::uint64_t Wide __attribute__((vector_size(SIMD_BYTES)));
constexpr int kWords = SIMD_BYTES / 4;  // words of a register

INLINE Words same(word_t x) { return Words{} + x; }

// the products of every other word, beginning with the first, as 64 bit numbers
INLINE Wide multiply_even(Words a, Words b) {
#if defined(__AVX512F__)
    return (Wide)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (Wide)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
    return (Wide)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
    return ((Wide)a & 0xffffffffu) * ((Wide)b & 0xffffffffu);
#endif
}

// the upper and the lower halves of the products of all words
INLINE void multiply_words(Words a, word_t by, Words& high, Words& low) {
    const Words factor = same(by);
    const Wide even = multiply_even(a, factor), odd = multiply_even((Words)((Wide)a >> 32), factor);
    const Wide upper = Wide{} + 0xffffffff00000000u;
    high = (Words)((even >> 32) | (odd & upper));
    low = (Words)((even & ~upper) | (odd << 32));
}

// The dropout of one row in one step: what is kept behind a layer, and by how much it is multiplied.
template <class T> struct Dropout {
    word_t key0 = 0, key1 = 0, step = 0;
    bool on = false, all = false;  // all: everything is dropped
    word_t threshold = 0;          // words below it drop their unit
    T scale = 1;

    Dropout() = default;
    Dropout(double rate, index_t seed, index_t t)
        : key0(word_t(seed)), key1(word_t(seed >> 32)), step(word_t(t)), on(rate > 0.0), scale(T(1.0 / (1.0 - rate))) {
        const double bound = std::ceil(rate * 4294967296.0);
        all = bound > 4294967295.0;
        threshold = all ? 0 : word_t(bound);
    }

    // the words of kWords units from `unit` on, of the four examples of `block`
    INLINE void draw(word_t layer, index_t unit, index_t block, Words (&c)[4]) const {
        for (int i = 0; i < kWords; i++) c[0][i] = word_t(i);
        c[0] += word_t(unit);
        c[1] = same(word_t(block)), c[2] = same(step), c[3] = same(layer);
        word_t k0 = key0, k1 = key1;
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            Words high0, low0, high1, low1;
            multiply_words(c[0], 0xD2511F53u, high0, low0);
            multiply_words(c[2], 0xCD9E8D57u, high1, low1);
            c[0] = high1 ^ c[1] ^ k0, c[1] = low1;
            c[2] = high0 ^ c[3] ^ k1, c[3] = low0;
            k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
        }
    }

    // what the words at p, one for each lane, leave of a unit: 0 or scale
    INLINE Vec<T> mask(const word_t* p) const {
        typedef word_t Part __attribute__((vector_size(kLanes<T> * 4)));
        Part words;
        std::memcpy(&words, p, sizeof words);
        const auto kept = __builtin_convertvector(words >= threshold, IntVec<T>);
        return kept ? splat(scale) : Vec<T>{};
    }

    // z <- z * mask and slope <- f' * mask for `rows` examples from `first` on, a multiple of 4, of `columns` units
    template <class F> void apply(word_t layer, index_t first, T* z, T* slope, index_t ld, index_t rows, index_t columns) const {
        alignas(64) word_t drawn[4][kWords];
        for (index_t r = 0; r < rows; r += 4)
            for (index_t c = 0; c < columns; c += kWords) {
                Words words[4];
                draw(layer, c, (first + r) / 4, words);
                std::memcpy(drawn, words, sizeof drawn);
                for (index_t i = 0; i < 4 && r + i < rows; i++)
                    for (index_t j = 0; j < kWords && c + j < columns; j += kLanes<T>) {
                        const index_t at = (r + i) * ld + c + j;
                        const Vec<T> kept = all ? Vec<T>{} : mask(drawn[i] + j), a = load(z + at);
                        store(slope + at, kept * (F::kFromInput ? load(slope + at) : F::slope(a)));
                        store(z + at, kept * a);
                    }
            }
    }
};

template <class T>
void drop(const Dropout<T>& dropout, index_t activation, index_t layer, index_t first, T* z, T* slope, index_t ld,
          index_t rows, index_t columns) {
#define CALL(F) dropout.template apply<F>(word_t(layer), first, z, slope, ld, rows, columns)
    FOR_ACTIVATION(CALL)
#undef CALL
}

}  // namespace
