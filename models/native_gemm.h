// C (rows x cols) = init + A (rows x depth) . B (depth x cols), tiled for registers.
//
// B lies in column panels of kPanel numbers, each panel contiguous (depth x width), so that it streams through the
// nearest cache. Every element of C sums over depth in order, fused, whatever tile it falls into.
#pragma once

#include "native_simd.h"

namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileRows = 12;  // 32 registers: 12 x 2 sums, 2 of B, the broadcast of A
#else
constexpr int kTileRows = 6;  // 16 registers
#endif
constexpr int kTileVectors = 2;
template <class T> constexpr index_t kPanel = 2 * kGroup<T>;
template <class T> constexpr index_t kTileWidth = kTileVectors * kLanes<T>;

// One tile of M rows x N vectors. A(r, k) is a[r * lda + k], or a[k * lda + r] when AcrossRows.
// Row r of the tile starts from init[r * ldi ..].
template <class T, int M, int N, bool AcrossRows>
void tile(const T* a, index_t lda, const T* b, index_t ldb, index_t depth, const T* init, index_t ldi, T* c,
          index_t ldc) {
    constexpr int L = kLanes<T>;
    Vec<T> sum[M][N];
#pragma GCC unroll 12
    for (int r = 0; r < M; r++)
#pragma GCC unroll 2
        for (int j = 0; j < N; j++) sum[r][j] = load(init + r * ldi + j * L);
    for (index_t k = 0; k < depth; k++) {
        Vec<T> column[N];
#pragma GCC unroll 2
        for (int j = 0; j < N; j++) column[j] = load(b + k * ldb + j * L);
#pragma GCC unroll 12
        for (int r = 0; r < M; r++) {
            const Vec<T> x = splat(AcrossRows ? a[k * lda + r] : a[r * lda + k]);
#pragma GCC unroll 2
            for (int j = 0; j < N; j++) sum[r][j] = fused(x, column[j], sum[r][j]);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < M; r++)
#pragma GCC unroll 2
        for (int j = 0; j < N; j++) store(c + r * ldc + j * L, sum[r][j]);
}

template <class T>
using Tile = void (*)(const T*, index_t, const T*, index_t, index_t, const T*, index_t, T*, index_t);

template <class T, int N, bool AcrossRows> Tile<T> tile_of(index_t rows) {
#define CASE(M) case M: if constexpr (M <= kTileRows) return tile<T, M, N, AcrossRows>; else break;
    switch (rows) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
    }
#undef CASE
    return nullptr;
}

// One panel of B against all rows of A, in tiles of nearly equal height.
template <class T, bool AcrossRows>
void multiply_panel(index_t rows, index_t depth, index_t width, const T* a, index_t lda, const T* b, index_t ldb,
                    const T* init, index_t ldi, T* c, index_t ldc) {
    if (rows <= 0) return;
    const index_t tiles = (rows + kTileRows - 1) / kTileRows, height = rows / tiles, taller = rows % tiles;
    for (index_t j = 0; j < width; j += kTileWidth<T>) {
        const bool wide = width - j > kLanes<T>;
        const Tile<T> tall_tile = wide ? tile_of<T, 2, AcrossRows>(height + 1) : tile_of<T, 1, AcrossRows>(height + 1);
        const Tile<T> flat_tile = wide ? tile_of<T, 2, AcrossRows>(height) : tile_of<T, 1, AcrossRows>(height);
        for (index_t i = 0, r = 0; i < tiles; i++) {
            (i < taller ? tall_tile : flat_tile)(a + r * (AcrossRows ? 1 : lda), lda, b + j, ldb, depth,
                                                 init + r * ldi + j, ldi, c + r * ldc + j, ldc);
            r += height + (i < taller);
        }
    }
}

}  // namespace
