// Between a row's memory and the workspace, whose matrices are panels.
#pragma once

#include "native_plan.h"

namespace {

// a vector of n numbers in a row, and padded with zeros in the workspace
template <class T> void exchange_vector(T* row, T* plane, index_t n, bool out) {
    for (index_t i = 0; i < padded<T>(n); i++) {
        if (!out) plane[i] = i < n ? row[i] : T(0);
        else if (i < n) row[i] = plane[i];
    }
}

// a matrix (outs, ins) in a row, and the panels of its transpose
template <class T> void exchange_matrix(T* row, T* panels, index_t ins, index_t outs, bool out) {
    constexpr index_t L = kLanes<T>;
    for (index_t o = 0; o < padded<T>(outs); o += L)
        for (index_t i = 0; i < ins; i += L) {
            T *weight = row + o * ins + i, *panel = panels + panel_at<T>(ins, outs, i, o);
            const index_t width = panel_width<T>(outs, o);
            if (out) transpose_block<T>(panel, width, ins - i, L, weight, ins, outs - o, ins - i);
            else transpose_block<T>(weight, ins, outs - o, ins - i, panel, width, ins - i, L);
        }
}

template <class T> void exchange_embedding(const EmbeddingPlan& at, T* row, T* plane, bool out) {
    for (index_t n = 0; n < at.numbers; n++) {
        T* own = plane + n * at.each;
        exchange_vector(row + n * at.frequencies, own, at.frequencies, out);
        if (at.linear) exchange_vector(row + at.row_phases + n * at.frequencies, own + at.phases, at.frequencies, out);
        exchange_matrix(row + at.row_weight + n * at.made * at.waves, own + at.panels, at.waves, at.made, out);
        exchange_vector(row + at.row_bias + n * at.made, own + at.bias, at.made, out);
    }
    for (index_t i = 0; i < at.categories; i++)
        exchange_vector(row + at.row_tables + i * at.category_size, plane + at.table(i), at.category_size, out);
}

// the parameters of a row, or its moments, which lie alike
template <class T> void exchange_plane(const Plan<T>& plan, T* row, T* plane, bool out) {
    exchange_embedding(plan.embedding, row, plane, out);
    for (const Linear& at : plan.linear) {
        exchange_matrix(row + at.weight, plane + at.panels, at.in, at.out, out);
        exchange_vector(row + at.bias, plane + at.panel_bias, at.out, out);
        if (!at.normed) continue;
        exchange_vector(row + at.bias + at.out, plane + at.scale, at.out, out);
        exchange_vector(row + at.bias + 2 * at.out, plane + at.shift, at.out, out);
    }
}

// the running statistics of batch normalisations, behind a row's parameters and theta's
template <class T> void exchange_running(const Plan<T>& plan, T* row, T* theta, bool out) {
    if (!plan.running) return;
    for (index_t l = 0; l + 1 < plan.linears; l++) {
        const Linear& at = plan.linear[l];
        exchange_vector(row + at.running, theta + at.mean, at.out, out);
        exchange_vector(row + at.running + at.out, theta + at.variance, at.out, out);
    }
}

// `back`, panels of (outs, ins), from the panels of its transpose
template <class T> void turn_panels(const T* panels, index_t ins, index_t outs, T* back) {
    constexpr index_t L = kLanes<T>;
    for (index_t i = 0; i < ins; i += L)
        for (index_t o = 0; o < outs; o += L)
            transpose_block<T>(panels + panel_at<T>(ins, outs, i, o), panel_width<T>(outs, o), ins - i, L,
                               back + panel_at<T>(outs, ins, o, i), panel_width<T>(ins, i), outs - o, L);
}

// the transposed panels of all matrices whose input needs a gradient
template <class T> void refresh(const Plan<T>& plan, const T* theta, T* memory) {
    const EmbeddingPlan& inputs = plan.embedding;
    for (index_t n = 0; n < inputs.numbers; n++)
        turn_panels(theta + n * inputs.each + inputs.panels, inputs.waves, inputs.made,
                    memory + inputs.back + n * inputs.back_length);
    for (index_t l = inputs.kind ? 0 : 1; l < plan.linears; l++) {
        const Linear& at = plan.linear[l];
        turn_panels(theta + at.panels, at.in, at.out, memory + at.back);
    }
}

}  // namespace
