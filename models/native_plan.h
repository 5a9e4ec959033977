// What an epoch is given, and where a row's numbers lie in the workspace while it trains.
#pragma once

#include <vector>

#include "native_gemm.h"

namespace {

constexpr index_t kChunk = 128;  // examples per pass: a larger minibatch adds up the gradients of several chunks

// Mirrored field by field in models/native.py.
struct Job {
    index_t linears, normalization, batch, train, val, steps, classify, active, stride, threads, workspace_bytes;
    index_t inputs, embedding, frequencies, embedding_size, category_size, n_numbers, n_passed, n_columns;
    const index_t *numbers, *passed, *categories;  // positions of inputs; start and end of each text column's
    const index_t *sizes, *slots, *orders;
    const void *x_train, *y_train, *x_val, *y_val;
    const void *w_train, *w_val;  // how much each row counts, or none at all: all count the same
    void *theta, *m, *v, *average, *workspace;  // no average at all: none of the rows has one
    const double *lr, *wd_coupled, *wd_decoupled, *b1, *cg, *b2, *s, *eps, *nesterov, *clip, *corrected;
    const double *dropout, *smoothing, *ema, *residual, *ntk;
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

enum Normalization : index_t { kNoNorm, kLayerNorm, kBatchNorm };  // models.config.NORMALIZATIONS

// Where a Linear lies: in a row as torch has it, weight (out, in) then bias (out,); in the workspace as panels of its
// transpose, (in, out) padded with zero columns; and `back` as panels of (out, in), for the gradient of its input.
// Scale and shift (out,) of a normalisation behind it follow the bias in both; the running mean and variance of one of
// the batch lie behind all parameters.
struct Linear {
    index_t in, out, weight, bias, running;                // in a row
    index_t begin, panels, panel_bias, scale, shift, end;  // in the workspace; the first one begins with an embedding
    index_t mean, variance, back;
    index_t output, slope, in_spread, out_spread;  // activations of a chunk
    index_t peak;                                  // the largest activation of each unit in a batch
    bool normed;
    index_t centred, inverse;  // of a normalisation, for its gradient
};

// Where an embedding (native_embedding.h) lies: in a row all frequencies, phases, weights and biases in turn, then the
// tables; in the workspace those of one number after the other, `each` long, then the tables. Nothing: kind 0.
struct EmbeddingPlan {
    index_t kind = 0, numbers = 0, passed = 0, columns = 0, categories = 0;
    bool linear = false;  // pbld: outputs are what waves make of a number, and itself
    index_t frequencies = 0, waves = 0, size = 0, made = 0, category_size = 0, table_width = 0;
    index_t row_phases = 0, row_weight = 0, row_bias = 0, row_tables = 0, row_end = 0;
    index_t phases = 0, panels = 0, bias = 0, each = 0, end = 0;  // the first three from the start of a number
    index_t cosines = 0, sines = 0, outputs = 0, wave_delta = 0, back = 0, back_length = 0, input = 0;  // buffers
    index_t wave_spread = 0, made_spread = 0, input_spread = 0;

    index_t table(index_t category) const { return numbers * each + category * table_width; }
};

template <class T> struct Plan {
    index_t linears, parameters = 0, running = 0, total = 0;
    index_t chunk = kChunk;  // with batch normalisation, all of a minibatch
    EmbeddingPlan embedding;
    std::vector<Linear> linear;
    // starts of these regions, in numbers; `before`: theta before a measured step, `effective`: see Row
    index_t theta, m, v, g, input, delta, other_delta, sums, before, average, effective;

    explicit Plan(const Job& job) : linears(job.linears), linear(size_t(job.linears)) {
        if (job.normalization == kBatchNorm && job.batch > chunk) chunk = (job.batch + 3) / 4 * 4;
        if (job.embedding) lay_out_embedding(job);
        index_t row = embedding.row_end, widest = 0;
        parameters = embedding.end;
        for (index_t l = 0; l < linears; l++) {
            Linear& at = linear[l];
            at.in = job.sizes[l], at.out = job.sizes[l + 1];
            at.normed = job.normalization != kNoNorm && l + 1 < linears;
            at.weight = row, at.bias = row + at.in * at.out;
            row = at.bias + (at.normed ? 3 : 1) * at.out;
            at.begin = l > 0 ? parameters : 0;
            at.panels = parameters, at.panel_bias = parameters + at.in * padded<T>(at.out);
            at.scale = at.panel_bias + padded<T>(at.out), at.shift = at.scale + padded<T>(at.out);
            parameters = at.end = at.panel_bias + (at.normed ? 3 : 1) * padded<T>(at.out);
            // the embedding's last outputs are written with what follows them
            at.in_spread = spread<T>(at.in + (l == 0 && job.embedding ? kGroup<T> : 0));
            at.out_spread = spread<T>(at.out);
            widest = at.out_spread > widest ? at.out_spread : widest;
        }
        if (job.normalization == kBatchNorm) lay_out_running(row);
        theta = take(parameters + running), m = take(parameters), v = take(parameters), g = take(parameters);
        if (job.embedding && linear[0].in_spread > widest) widest = linear[0].in_spread;
        input = take(chunk * linear[0].in_spread), delta = take(chunk * widest), sums = take(chunk);
        for (index_t l = 0; l < linears; l++) {
            Linear& at = linear[l];
            at.output = take(chunk * at.out_spread), at.slope = take(chunk * at.out_spread);
            at.back = l > 0 || job.embedding ? take(padded<T>(at.out) * padded<T>(at.in)) : 0;
            at.centred = at.normed ? take(chunk * at.out_spread) : 0;
            at.inverse = at.normed ? take(chunk > at.out_spread ? chunk : at.out_spread) : 0;
        }
        for (index_t l = 0; l < linears; l++) linear[l].peak = take(padded<T>(linear[l].out));
        before = take(parameters), average = take(parameters), effective = take(parameters);
        other_delta = take(chunk * widest);
        if (job.embedding) take_embedding_buffers(job);
    }

  private:
    // multiples of 64 bytes, an odd number of them apart, so that equal indices of theta, m, v, g differ in their cache set
    index_t take(index_t n) {
        const index_t line = 64 / sizeof(T), start = total;
        total += ((n + line - 1) / line | 1) * line;
        return start;
    }

    void lay_out_running(index_t row) {
        for (index_t l = 0; l + 1 < linears; l++) {
            Linear& at = linear[l];
            at.running = row, row += 2 * at.out;
            at.mean = parameters + running, at.variance = at.mean + padded<T>(at.out);
            running += 2 * padded<T>(at.out);
        }
    }

    void lay_out_embedding(const Job& job) {
        EmbeddingPlan& at = embedding;
        at.kind = job.embedding, at.linear = job.embedding == 2;
        at.numbers = job.n_numbers, at.passed = job.n_passed, at.columns = job.n_columns;
        for (index_t i = 0; i < at.columns; i++) at.categories += job.categories[2 * i + 1] - job.categories[2 * i];
        at.category_size = job.category_size, at.table_width = padded<T>(at.category_size);
        if (at.numbers) {
            at.frequencies = job.frequencies, at.waves = (at.linear ? 1 : 2) * at.frequencies;
            at.size = job.embedding_size, at.made = at.size - (at.linear ? 1 : 0);
            const index_t k = padded<T>(at.frequencies);
            at.phases = k, at.panels = at.linear ? 2 * k : k, at.bias = at.panels + at.waves * padded<T>(at.made);
            at.each = at.bias + padded<T>(at.made);
        }
        at.row_phases = at.numbers * at.frequencies;
        at.row_weight = at.row_phases + (at.linear ? at.row_phases : 0);
        at.row_bias = at.row_weight + at.numbers * at.made * at.waves, at.row_tables = at.row_bias + at.numbers * at.made;
        at.row_end = at.row_tables + at.categories * at.category_size;
        at.end = at.table(at.categories);
    }

    void take_embedding_buffers(const Job& job) {
        EmbeddingPlan& at = embedding;
        at.wave_spread = spread<T>(at.waves + kGroup<T>), at.made_spread = spread<T>(at.made);
        at.input_spread = spread<T>(job.inputs), at.back_length = padded<T>(at.made) * padded<T>(at.waves);
        at.input = take(chunk * at.input_spread), at.outputs = take(chunk * at.made_spread);
        at.cosines = take(at.numbers * chunk * at.wave_spread), at.wave_delta = take(chunk * at.wave_spread);
        at.sines = at.linear ? take(at.numbers * chunk * at.wave_spread) : 0;
        at.back = take(at.numbers * at.back_length);
    }
};

template <class T> alignas(64) constexpr T kZeros[kPanel<T>] = {};

// ---- panels of a (rows, columns) matrix: element (r, c), c a multiple of the lanes

template <class T> index_t panel_width(index_t columns, index_t c) {
    const index_t left = padded<T>(columns) - c / kPanel<T> * kPanel<T>;
    return left < kPanel<T> ? left : kPanel<T>;
}
template <class T> index_t panel_at(index_t rows, index_t columns, index_t r, index_t c) {
    const index_t panel = c / kPanel<T> * kPanel<T>;
    return panel * rows + r * panel_width<T>(columns, c) + (c - panel);
}

// to <- (its own numbers +) the sums of the columns of (rows x units), `ld` apart
template <class T> void sum_rows(const T* from, index_t ld, index_t rows, index_t units, bool add, T* to) {
    for (index_t c = 0; c < padded<T>(units); c += kLanes<T>) {
        Vec<T> sum = add ? load(to + c) : Vec<T>{};
        for (index_t r = 0; r < rows; r++) sum += load(from + r * ld + c);
        store(to + c, sum);
    }
}

}  // namespace
