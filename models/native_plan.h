// What an epoch is given, and where a row's numbers lie in the workspace while it trains.
//
// Dimensions: D features, C outputs, n training rows, P numbers per row of theta, m, v.
#pragma once

#include <vector>

#include "native_gemm.h"

namespace {

constexpr index_t kChunk = 128;  // examples per pass: a larger minibatch adds up the gradients of several chunks

// Mirrored field by field in models/native.py.
struct Job {
    index_t linears, layer_norm, batch, train, val, steps, classify, active, stride, threads, workspace_bytes;
    const index_t *sizes, *slots, *orders;
    const void *x_train, *y_train, *x_val, *y_val;
    const void *w_train, *w_val;  // how much each row counts, or none at all: all count the same
    void *theta, *m, *v, *average, *workspace;  // no average at all: none of the rows has one
    const double *lr, *wd_coupled, *wd_decoupled, *b1, *cg, *b2, *s, *eps, *nesterov, *clip, *corrected;
    const double *dropout, *smoothing, *ema;
    const double *rates, *share_d, *share_m;  // (active, steps), or none at all: the rate is lr, no row is nadam's
    index_t* t;
    const index_t *activation, *optimizer, *seed;
    double *train_loss, *grad_norm, *val_loss, *val_metric;
    const index_t* measured;  // per active row, or none at all: whether flow and clip_rate are wanted
    double *flow, *clip_rate;
    void* outputs;  // (active, val, outputs of the network), or none at all
};

template <class T> constexpr index_t padded(index_t n) { return (n + kGroup<T> - 1) / kGroup<T> * kGroup<T>; }
// distance between examples: an odd number of groups, so that a column of them spreads over the cache's sets
template <class T> constexpr index_t spread(index_t n) { return (padded<T>(n) / kGroup<T> | 1) * kGroup<T>; }

// Where a Linear lies: in a row as torch has it, weight (out, in) then bias (out,); in the workspace as panels of its
// transpose, (in, out) padded with zero columns; and `back` as panels of (out, in), for the gradient of its input.
// Scale and shift (out,) of a normalisation behind it follow the bias in both.
struct Linear {
    index_t in, out, weight, bias, row_end;         // in a row
    index_t panels, panel_bias, scale, shift, end;  // in the workspace
    index_t back;
    index_t output, slope, in_spread, out_spread;  // activations of a chunk
    index_t peak;                                  // the largest activation of each unit in a batch
    bool normed;
    index_t centred, inverse;  // of a normalisation, for its gradient
};

template <class T> struct Plan {
    index_t linears, parameters = 0, total = 0;
    std::vector<Linear> linear;
    index_t theta, m, v, g, input, delta, sums, before, average;  // starts of these regions, in numbers

    explicit Plan(const Job& job) : linears(job.linears), linear(size_t(job.linears)) {
        index_t row = 0, widest = 0;
        for (index_t l = 0; l < linears; l++) {
            Linear& at = linear[l];
            at.in = job.sizes[l], at.out = job.sizes[l + 1], at.normed = job.layer_norm && l + 1 < linears;
            at.weight = row, at.bias = row + at.in * at.out;
            row = at.row_end = at.bias + (at.normed ? 3 : 1) * at.out;
            at.panels = parameters, at.panel_bias = parameters + at.in * padded<T>(at.out);
            at.scale = at.panel_bias + padded<T>(at.out), at.shift = at.scale + padded<T>(at.out);
            parameters = at.end = at.panel_bias + (at.normed ? 3 : 1) * padded<T>(at.out);
            at.in_spread = spread<T>(at.in), at.out_spread = spread<T>(at.out);
            widest = at.out_spread > widest ? at.out_spread : widest;
        }
        theta = take(parameters), m = take(parameters), v = take(parameters), g = take(parameters);
        input = take(kChunk * linear[0].in_spread), delta = take(kChunk * widest), sums = take(kChunk);
        for (index_t l = 0; l < linears; l++) {
            Linear& at = linear[l];
            at.output = take(kChunk * at.out_spread), at.slope = take(kChunk * at.out_spread);
            at.back = l > 0 ? take(padded<T>(at.out) * padded<T>(at.in)) : 0;
            at.centred = at.normed ? take(kChunk * at.out_spread) : 0, at.inverse = at.normed ? take(kChunk) : 0;
        }
        for (index_t l = 0; l < linears; l++) linear[l].peak = take(padded<T>(linear[l].out));
        before = take(parameters), average = take(parameters);
    }

    // multiples of 64 bytes, an odd number of them apart, so that equal indices of theta, m, v, g differ in their cache set
    index_t take(index_t n) {
        const index_t line = 64 / sizeof(T), start = total;
        total += ((n + line - 1) / line | 1) * line;
        return start;
    }
};

// ---- panels of a (rows, columns) matrix: element (r, c), c a multiple of the lanes

template <class T> index_t panel_width(index_t columns, index_t c) {
    const index_t left = padded<T>(columns) - c / kPanel<T> * kPanel<T>;
    return left < kPanel<T> ? left : kPanel<T>;
}
template <class T> index_t panel_at(index_t rows, index_t columns, index_t r, index_t c) {
    const index_t panel = c / kPanel<T> * kPanel<T>;
    return panel * rows + r * panel_width<T>(columns, c) + (c - panel);
}

// ---- between a row's memory and the workspace

template <class T> void exchange_vector(T* row, T* plane, index_t n, bool out) {
    for (index_t i = 0; i < padded<T>(n); i++) {
        if (!out) plane[i] = i < n ? row[i] : T(0);
        else if (i < n) row[i] = plane[i];
    }
}

template <class T> void exchange_plane(const Plan<T>& plan, T* row, T* plane, bool out) {
    constexpr index_t L = kLanes<T>;
    for (const Linear& at : plan.linear) {
        for (index_t o = 0; o < padded<T>(at.out); o += L)
            for (index_t i = 0; i < at.in; i += L) {
                T *weight = row + at.weight + o * at.in + i;
                T *panel = plane + at.panels + panel_at<T>(at.in, at.out, i, o);
                const index_t width = panel_width<T>(at.out, o), outs = at.out - o, ins = at.in - i;
                if (out) transpose_block<T>(panel, width, ins, L, weight, at.in, outs, ins);
                else transpose_block<T>(weight, at.in, outs, ins, panel, width, ins, L);
            }
        exchange_vector(row + at.bias, plane + at.panel_bias, at.out, out);
        if (!at.normed) continue;
        exchange_vector(row + at.bias + at.out, plane + at.scale, at.out, out);
        exchange_vector(row + at.bias + 2 * at.out, plane + at.shift, at.out, out);
    }
}

// the transposed panels of every Linear whose input needs a gradient
template <class T> void refresh(const Plan<T>& plan, const T* theta, T* memory) {
    constexpr index_t L = kLanes<T>;
    for (index_t l = 1; l < plan.linears; l++) {
        const Linear& at = plan.linear[l];
        for (index_t i = 0; i < at.in; i += L)
            for (index_t o = 0; o < at.out; o += L)
                transpose_block<T>(theta + at.panels + panel_at<T>(at.in, at.out, i, o), panel_width<T>(at.out, o),
                                   at.in - i, L, memory + at.back + panel_at<T>(at.out, at.in, o, i),
                                   panel_width<T>(at.in, i), at.out - o, L);
    }
}

}  // namespace
