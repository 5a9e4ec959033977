// One epoch of a cohort of MLPs on a CPU: each row runs through all its minibatches alone, its weights, optimizer
// state and activations staying in the core's cache. Rows share nothing, so a row's numbers cannot depend on its
// neighbours, its slot or the number of threads. Built several times, once per instruction set (setup.py).
//
// Dimensions: D features, C outputs, n training rows, P numbers per row of theta, m, v.

#include <atomic>
#include <thread>
#include <vector>

#include "native_dropout.h"
#include "native_flow.h"

namespace {

constexpr index_t kChunk = 128;  // examples per pass: a larger minibatch adds up the gradients of several chunks

// Mirrored field by field in models/native.py.
struct Job {
    index_t linears, batch, train, val, classify, active, stride, threads, workspace_bytes;
    const index_t *sizes, *slots, *orders;
    const void *x_train, *y_train, *x_val, *y_val;
    const void *w_train, *w_val;  // how much each row counts, or none at all: all count the same
    void *theta, *m, *v, *workspace;
    const double *lr, *wd_coupled, *wd_decoupled, *b1, *cg, *b2, *s, *eps, *nesterov, *clip, *corrected, *dropout;
    index_t* t;
    const index_t *activation, *seed;
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
struct Linear {
    index_t in, out, weight, bias;              // in a row
    index_t panels, panel_bias, back;           // in the workspace
    index_t output, slope, in_spread, out_spread;  // activations of a chunk
    index_t peak;                               // the largest activation of each unit in a batch
};

template <class T> struct Plan {
    index_t linears, parameters = 0, total = 0;
    std::vector<Linear> linear;
    index_t theta, m, v, g, input, delta, sums, before;  // starts of these regions, in numbers

    Plan(index_t count, const index_t* sizes) : linears(count), linear(size_t(count)) {
        index_t row = 0, widest = 0;
        for (index_t l = 0; l < linears; l++) {
            Linear& at = linear[l];
            at.in = sizes[l], at.out = sizes[l + 1];
            at.weight = row, at.bias = row + at.in * at.out, row = at.bias + at.out;
            at.panels = parameters, at.panel_bias = parameters + at.in * padded<T>(at.out);
            parameters = at.panel_bias + padded<T>(at.out);
            at.in_spread = spread<T>(at.in), at.out_spread = spread<T>(at.out);
            widest = at.out_spread > widest ? at.out_spread : widest;
        }
        theta = take(parameters), m = take(parameters), v = take(parameters), g = take(parameters);
        input = take(kChunk * linear[0].in_spread), delta = take(kChunk * widest), sums = take(kChunk);
        for (index_t l = 0; l < linears; l++) {
            Linear& at = linear[l];
            at.output = take(kChunk * at.out_spread), at.slope = take(kChunk * at.out_spread);
            at.back = l > 0 ? take(padded<T>(at.out) * padded<T>(at.in)) : 0;
        }
        for (index_t l = 0; l < linears; l++) linear[l].peak = take(padded<T>(linear[l].out));
        before = take(parameters);
    }

    // multiples of 64 bytes, an odd number of them apart, so that equal indices of theta, m, v, g differ in their cache set
    index_t take(index_t n) {
        const index_t line = 64 / sizeof(T), start = total;
        total += ((n + line - 1) / line | 1) * line;
        return start;
    }
};

template <class T> class Row {
  public:
    Row(const Job& job, const Plan<T>& plan, T* memory)
        : job_(job), plan_(plan), memory_(memory), theta_(memory + plan.theta), m_(memory + plan.m),
          v_(memory + plan.v), g_(memory + plan.g), tallies_(size_t(plan.linears)) {}

    void epoch(index_t number) {
        const index_t slot = job_.slots[number];
        const index_t* order = job_.orders + number * job_.train;
        momentum_ = job_.b1[slot] != 0.0, scaled_ = job_.s[slot] != 0.0, activation_ = job_.activation[slot];
        exchange(slot, false);
        const bool measured = job_.measured && job_.measured[number];
        const index_t last_full = (job_.train / job_.batch - 1) * job_.batch;
        double loss = 0.0, norms = 0.0, counted = 0.0;
        index_t steps = 0;
        clipped_ = 0;
        for (index_t start = 0; start < job_.train; start += job_.batch, steps++) {
            const index_t left = job_.train - start, size = left < job_.batch ? left : job_.batch;
            flow_ = measured && start == last_full ? job_.flow + number * plan_.linears * kStatistics : nullptr;
            const double total = total_weight(job_.w_train, order + start, 0, size);
            dropout_ = Dropout<T>(job_.dropout[slot], job_.seed[slot], job_.t[slot]);
            loss += gradient(order + start, size, total);
            counted += total;
            norms += step(slot, ++job_.t[slot]);
            if (start + job_.batch < job_.train) refresh();
        }
        job_.train_loss[number] = loss / counted, job_.grad_norm[number] = norms / double(steps);
        if (measured) job_.clip_rate[number] = double(clipped_) / double(steps);
        evaluate(number);
        exchange(slot, true);
    }

  private:
    const Job& job_;
    const Plan<T>& plan_;
    T *memory_, *theta_, *m_, *v_, *g_;
    bool momentum_ = false, scaled_ = false;
    index_t activation_ = 0, clipped_ = 0;
    Dropout<T> dropout_;      // of this step
    double* flow_ = nullptr;  // where the statistics of this step go, (linears, kStatistics); none: it is not measured
    std::vector<Tally> tallies_;

    static constexpr index_t L = kLanes<T>;
    alignas(64) static constexpr T kZeros[kPanel<T>] = {};

    // ---- between a row's memory and the workspace

    void exchange(index_t slot, bool out) {
        const index_t at = slot * job_.stride;
        exchange_plane(static_cast<T*>(job_.theta) + at, theta_, out);
        if (momentum_) exchange_plane(static_cast<T*>(job_.m) + at, m_, out);
        if (scaled_) exchange_plane(static_cast<T*>(job_.v) + at, v_, out);
        if (!out) refresh();
    }

    void exchange_plane(T* row, T* plane, bool out) {
        for (index_t l = 0; l < plan_.linears; l++) {
            const Linear& at = plan_.linear[l];
            for (index_t o = 0; o < padded<T>(at.out); o += L)
                for (index_t i = 0; i < at.in; i += L) {
                    T *weight = row + at.weight + o * at.in + i, *panel = plane + at.panels + panel_at(at.in, at.out, i, o);
                    const index_t width = panel_width(at.out, o), outs = at.out - o, ins = at.in - i;
                    if (out) transpose_block<T>(panel, width, ins, L, weight, at.in, outs, ins);
                    else transpose_block<T>(weight, at.in, outs, ins, panel, width, ins, L);
                }
            T *bias = row + at.bias, *panel = plane + at.panel_bias;
            for (index_t o = 0; o < padded<T>(at.out); o++) {
                if (!out) panel[o] = o < at.out ? bias[o] : T(0);
                else if (o < at.out) bias[o] = panel[o];
            }
        }
    }

    // the transposed panels of every Linear whose input needs a gradient
    void refresh() {
        for (index_t l = 1; l < plan_.linears; l++) {
            const Linear& at = plan_.linear[l];
            for (index_t i = 0; i < at.in; i += L)
                for (index_t o = 0; o < at.out; o += L)
                    transpose_block<T>(theta_ + at.panels + panel_at(at.in, at.out, i, o), panel_width(at.out, o),
                                       at.in - i, L, memory_ + at.back + panel_at(at.out, at.in, o, i),
                                       panel_width(at.in, i), at.out - o, L);
        }
    }

    // panels of a (rows, columns) matrix: element (r, c), c a multiple of the lanes
    static index_t panel_width(index_t columns, index_t c) {
        const index_t left = padded<T>(columns) - c / kPanel<T> * kPanel<T>;
        return left < kPanel<T> ? left : kPanel<T>;
    }
    static index_t panel_at(index_t rows, index_t columns, index_t r, index_t c) {
        const index_t panel = c / kPanel<T> * kPanel<T>;
        return panel * rows + r * panel_width(columns, c) + (c - panel);
    }

    // ---- one minibatch

    // the sum of the weights of `size` rows, those of order[0..] or from `start` on; their number where they have none
    static double total_weight(const void* weights, const index_t* order, index_t start, index_t size) {
        if (!weights) return double(size);
        const T* w = static_cast<const T*>(weights) + start;
        double total = 0.0;
        for (index_t r = 0; r < size; r++) total += double(w[order ? order[r] : r]);
        return total;
    }

    // g <- gradient of the mean loss over the `size` examples order[0..], which weigh `total`; returns the sum of their
    // weighted losses
    double gradient(const index_t* order, index_t size, double total) {
        const T scale = total > 0.0 ? T(1.0 / total) : T(0);
        double loss = 0.0;
        for (index_t start = 0; start < size; start += kChunk) {
            const index_t rows = size - start < kChunk ? size - start : kChunk;
            const Linear& first = plan_.linear[0];
            T* input = memory_ + plan_.input;
            for (index_t r = 0; r < rows; r++)
                std::memcpy(input + r * first.in_spread,
                            static_cast<const T*>(job_.x_train) + order[start + r] * first.in,
                            sizeof(T) * size_t(first.in));
            const Pass pass = {start, start + rows == size ? size : 0};
            forward(input, first.in_spread, rows, &pass);
            loss += score(rows, job_.y_train, job_.w_train, 0, order + start, scale, true).loss;
            backward(input, rows, start > 0);
        }
        return loss;
    }

    // a chunk of a minibatch in training: its first example; the batch's size where it ends it, else 0
    struct Pass {
        index_t start, size;
    };

    void forward(const T* input, index_t lda, index_t rows, const Pass* training = nullptr) {
        for (index_t l = 0; l < plan_.linears; l++) {
            const Linear& at = plan_.linear[l];
            T* z = memory_ + at.output;
            for (index_t c = 0; c < at.out; c += kPanel<T>) {
                const index_t width = panel_width(at.out, c);
                multiply_panel<T, false>(rows, at.in, width, input, lda, theta_ + at.panels + c * at.in, width,
                                         theta_ + at.panel_bias + c, 0, z + c, at.out_spread);
            }
            const bool hidden = l + 1 < plan_.linears;
            if (hidden) activate(activation_, z, memory_ + at.slope, rows * at.out_spread);
            if (training && flow_) observe(l, rows, training->start == 0, training->size);
            if (training && hidden && dropout_.on)
                drop(dropout_, activation_, l, training->start, z, memory_ + at.slope, at.out_spread, rows,
                     padded<T>(at.out));
            input = z, lda = at.out_spread;
        }
    }

    Score score(index_t rows, const void* y, const void* w, index_t start, const index_t* order, T scale, bool gradient) {
        const T* weights = w ? static_cast<const T*>(w) + start : nullptr;
        const Linear& last = plan_.linear[plan_.linears - 1];
        T* z = memory_ + last.output;
        if (!job_.classify)
            return squared_error(z, last.out_spread, rows, static_cast<const T*>(y) + start, weights, order, scale,
                                 gradient);
        return cross_entropy(z, last.out_spread, rows, last.out, static_cast<const index_t*>(y) + start, weights, order,
                             scale, gradient, memory_ + plan_.sums);
    }

    // from the gradient of the outputs to that of every weight; each layer's gradient takes its activation's place
    void backward(const T* input, index_t rows, bool add) {
        for (index_t l = plan_.linears - 1; l >= 0; l--) {
            const Linear& at = plan_.linear[l];
            const T* dz = memory_ + at.output;
            const T* below = l > 0 ? memory_ + plan_.linear[l - 1].output : input;
            for (index_t c = 0; c < at.out; c += kPanel<T>) {
                const index_t width = panel_width(at.out, c);
                T* g = g_ + at.panels + c * at.in;
                multiply_panel<T, true>(at.in, rows, width, below, at.in_spread, dz + c, at.out_spread,
                                        add ? g : kZeros, add ? width : 0, g, width);
            }
            bias_gradient(at, dz, rows, add);
            if (l == 0) break;
            T* delta = memory_ + plan_.delta;
            for (index_t c = 0; c < at.in; c += kPanel<T>) {
                const index_t width = panel_width(at.in, c);
                multiply_panel<T, false>(rows, at.out, width, dz, at.out_spread, memory_ + at.back + c * at.out, width,
                                         kZeros, 0, delta + c, at.in_spread);
            }
            const Linear& under = plan_.linear[l - 1];
            T *a = memory_ + under.output, *slope = memory_ + under.slope;
            if (dropout_.on) retreat_by_slope(a, slope, delta, rows * under.out_spread);
            else retreat(activation_, a, slope, delta, rows * under.out_spread);
        }
    }

    void bias_gradient(const Linear& at, const T* dz, index_t rows, bool add) {
        for (index_t c = 0; c < padded<T>(at.out); c += L) {
            T* g = g_ + at.panel_bias + c;
            Vec<T> sum = add ? load(g) : Vec<T>{};
            for (index_t r = 0; r < rows; r++) sum += load(dz + r * at.out_spread + c);
            store(g, sum);
        }
    }

    // clip by the global norm, then the update rule; returns the norm before clipping
    double step(index_t slot, index_t t) {
        const double length = norm(g_, plan_.parameters), bound = job_.clip[slot], lr = job_.lr[slot];
        double share = 1.0;
        if (bound < std::numeric_limits<double>::infinity()) {
            share = bound / (length + 1e-6);
            share = share > 1.0 ? 1.0 : share;
        }
        clipped_ += share < 1.0;
        if (flow_) before_step();
        const bool corrected = job_.corrected[slot] != 0.0;
        const double b1 = job_.b1[slot], b2 = job_.b2[slot];
        const double c1 = corrected ? 1.0 / (1.0 - power(b1, t)) : 1.0;
        const double c2 = corrected ? 1.0 / (1.0 - power(b2, t)) : 1.0;
        const Rule<T> rule = {T(1.0 - lr * job_.wd_decoupled[slot]), T(job_.wd_coupled[slot]), T(b1), T(job_.cg[slot]),
                              T(b2), T(1.0 - b2), T(c2), T(job_.eps[slot]), T(lr * c1), job_.nesterov[slot] != 0.0};
        const auto rule_of = scaled_ ? (momentum_ ? update<T, true, true> : update<T, false, true>)
                                     : (momentum_ ? update<T, true, false> : update<T, false, false>);
        rule_of(rule, T(share), plan_.parameters, theta_, m_, v_, g_);
        if (flow_) after_step();
        return length;
    }

    // ---- gradient flow (models/gradient_flow.py): only reads what training has computed

    // what a layer gave for a chunk, before dropout; `size` > 0: the batch is complete
    void observe(index_t l, index_t rows, bool first, index_t size) {
        const Linear& at = plan_.linear[l];
        const bool hidden = l + 1 < plan_.linears;
        const Bounded bound = hidden ? bounded(activation_) : Bounded{};
        Tally& tally = tallies_[size_t(l)];
        if (first) tally = {double(memory_[at.output])};
        tally_outputs(memory_ + at.output, at.out_spread, rows, at.out, bound, first, memory_ + at.peak, tally);
        if (!size) return;
        double* numbers = flow_ + l * kStatistics;
        const double count = double(size) * double(at.out), mean = tally.sum / count;
        const double variance = tally.squares / count - mean * mean;
        numbers[3] = tally.shift + mean, numbers[4] = variance > 0.0 ? std::sqrt(variance) : 0.0;
        numbers[5] = bound.factor != 0.0 ? tally.saturated / count : kNaN;
        numbers[6] = hidden && activation_ == 0 ? dead_share(memory_ + at.peak, at.out) : kNaN;
    }

    void before_step() {
        std::memcpy(memory_ + plan_.before, theta_, sizeof(T) * size_t(plan_.parameters));
        for (index_t l = 0; l < plan_.linears; l++) {
            const Linear& at = plan_.linear[l];
            flow_[l * kStatistics] = wide_norm<false>(g_ + at.panels, nullptr, length_of(at));
            flow_[l * kStatistics + 1] = wide_norm<false>(theta_ + at.panels, nullptr, length_of(at));
        }
    }

    void after_step() {
        for (index_t l = 0; l < plan_.linears; l++) {
            const Linear& at = plan_.linear[l];
            const double moved = wide_norm<true>(theta_ + at.panels, memory_ + plan_.before + at.panels, length_of(at));
            double* numbers = flow_ + l * kStatistics;
            numbers[2] = moved > 0.0 ? moved / numbers[1] : 0.0;
        }
    }

    // weight and bias of a Linear, which lie together in the workspace
    static index_t length_of(const Linear& at) { return at.panel_bias + padded<T>(at.out) - at.panels; }

    // the network's outputs on a chunk of validation rows, which the score writes over
    void hand_out(index_t number, index_t start, index_t rows) {
        const Linear& last = plan_.linear[plan_.linears - 1];
        T* to = static_cast<T*>(job_.outputs) + (number * job_.val + start) * last.out;
        for (index_t r = 0; r < rows; r++)
            std::memcpy(to + r * last.out, memory_ + last.output + r * last.out_spread, sizeof(T) * size_t(last.out));
    }

    void evaluate(index_t number) {
        const index_t D = plan_.linear[0].in;
        const double counted = total_weight(job_.w_val, nullptr, 0, job_.val);
        double loss = 0.0, right = 0.0;
        for (index_t start = 0; start < job_.val; start += kChunk) {
            const index_t rows = job_.val - start < kChunk ? job_.val - start : kChunk;
            forward(static_cast<const T*>(job_.x_val) + start * D, D, rows);
            if (job_.outputs) hand_out(number, start, rows);
            const Score part = score(rows, job_.y_val, job_.w_val, start, nullptr, T(1), false);
            loss += part.loss, right += part.right;
        }
        loss /= counted;
        job_.val_loss[number] = loss;
        job_.val_metric[number] = job_.classify ? right / counted : std::sqrt(loss);
    }
};

// Numbers too small for a normal float count as zero while rows train: they cost a hundred times the usual.
class FlushTiny {
#if defined(__x86_64__)
  public:
    FlushTiny() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
    ~FlushTiny() { _mm_setcsr(before_); }

  private:
    unsigned before_;
#endif
};

template <class T> void run(const Job& job) {
    const Plan<T> plan(job.linears, job.sizes);
    std::atomic<index_t> next{0};
    const auto work = [&](index_t thread) {
        const FlushTiny flush;
        char* memory = static_cast<char*>(job.workspace) + thread * job.workspace_bytes;
        Row<T> row(job, plan, reinterpret_cast<T*>(memory));
        for (index_t number = next++; number < job.active; number = next++) row.epoch(number);
    };
    const index_t wanted = job.threads < job.active ? job.threads : job.active;
    std::vector<std::thread> helpers;
    try {
        for (index_t i = 1; i < wanted; i++) helpers.emplace_back(work, i);
    } catch (...) {
        // no more threads to be had: the ones there are do it all
    }
    work(0);
    for (std::thread& helper : helpers) helper.join();
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT index_t cohort_workspace_f32(index_t linears, const index_t* sizes) { return Plan<float>(linears, sizes).total * 4; }
EXPORT index_t cohort_workspace_f64(index_t linears, const index_t* sizes) { return Plan<double>(linears, sizes).total * 8; }
EXPORT const char* cohort_sources() { return COHORT_SOURCES; }  // what tells them from others (compiled.py)
// Whether products are fused with sums: all variants of one machine that do so give the same bits.
EXPORT int cohort_fused() {
#if defined(__FMA__) || defined(__aarch64__)
    return 1;
#else
    return 0;
#endif
}
EXPORT void cohort_epoch_f32(const Job* job) { run<float>(*job); }
EXPORT void cohort_epoch_f64(const Job* job) { run<double>(*job); }

// The best variant of this source that the processor runs: 4 AVX-512, 3 AVX2 with FMA, 0 any.
EXPORT int cohort_cpu_level() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512cd");
    return v4 ? 4 : v3 ? 3 : 0;
#else
    return 0;
#endif
}
