// One row's epoch: it runs through all its minibatches alone and is then evaluated on the validation rows.
#pragma once

#include "native_dropout.h"
#include "native_embedding.h"
#include "native_exchange.h"
#include "native_flow.h"
#include "native_norm.h"
#include "native_update.h"

namespace {

constexpr index_t kNadam = 5, kAdagrad = 6, kLion = 7;  // in models.config.OPTIMIZERS

template <class T> class Row {
  public:
    Row(const Job& job, const Plan<T>& plan, T* memory)
        : job_(job), plan_(plan), memory_(memory), theta_(memory + plan.theta), m_(memory + plan.m),
          v_(memory + plan.v), g_(memory + plan.g), average_(memory + plan.average), embedded_(job, plan, memory),
          tallies_(size_t(plan.linears)) {}

    void epoch(index_t number) {
        const index_t slot = job_.slots[number];
        const index_t* order = job_.orders + number * job_.train;
        momentum_ = job_.b1[slot] != 0.0, scaled_ = job_.s[slot] != 0.0, activation_ = job_.activation[slot];
        averaged_ = job_.ema[slot] > 0.0, residual_ = job_.residual[slot] != 0.0, ntk_ = job_.ntk[slot] != 0.0;
        exchange(slot, false);
        weigh(theta_);
        refresh(plan_, weights_, memory_);
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
            loss += gradient(order + start, size, total, T(job_.smoothing[slot]));
            counted += total;
            norms += step(slot, number * job_.steps + steps, ++job_.t[slot]);
            weigh(theta_);
            if (start + job_.batch < job_.train) refresh(plan_, weights_, memory_);
        }
        job_.train_loss[number] = loss / counted, job_.grad_norm[number] = norms / double(steps);
        if (measured) job_.clip_rate[number] = double(clipped_) / double(steps);
        if (averaged_) weigh(average_);
        evaluate(number);
        exchange(slot, true);
    }

  private:
    const Job& job_;
    const Plan<T>& plan_;
    T *memory_, *theta_, *m_, *v_, *g_, *average_;
    const T* weights_ = nullptr;  // what the passes multiply by, see `weigh`
    Embedded<T> embedded_;
    bool momentum_ = false, scaled_ = false, averaged_ = false, residual_ = false, ntk_ = false;
    index_t activation_ = 0, clipped_ = 0;
    Dropout<T> dropout_;      // of this step
    double* flow_ = nullptr;  // where the statistics of this step go, (linears, kStatistics); none: it is not measured
    std::vector<Tally> tallies_;

    void exchange(index_t slot, bool out) {
        const auto with = [&](void* rows, T* plane) {
            exchange_plane(plan_, static_cast<T*>(rows) + slot * job_.stride, plane, out);
        };
        with(job_.theta, theta_);
        if (momentum_) with(job_.m, m_);
        if (scaled_) with(job_.v, v_);
        if (averaged_) with(job_.average, average_);
        exchange_running(plan_, static_cast<T*>(job_.theta) + slot * job_.stride, theta_, out);
        if (averaged_ && out) exchange_running(plan_, static_cast<T*>(job_.average) + slot * job_.stride, theta_, true);
    }

    // The passes multiply by the plane's own weights, or with ntk by what it has there / sqrt(inputs of a Linear).
    void weigh(const T* plane) {
        weights_ = plane;
        if (!ntk_) return;
        T* effective = memory_ + plan_.effective;
        std::memcpy(effective, plane, sizeof(T) * size_t(plan_.parameters));
        for (const Linear& at : plan_.linear) scale_weights(at, effective);
        weights_ = effective;
    }

    static void scale_weights(const Linear& at, T* plane) {
        const T factor = T(1.0 / std::sqrt(double(at.in)));
        for (index_t i = at.panels; i < at.panel_bias; i += kLanes<T>) store(plane + i, load(plane + i) * factor);
    }

    // whether the input of layer l is added to its output
    bool skips(index_t l) const {
        return residual_ && l > 0 && l + 1 < plan_.linears && plan_.linear[l].in == plan_.linear[l].out;
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
    double gradient(const index_t* order, index_t size, double total, T smoothing) {
        const T scale = total > 0.0 ? T(1.0 / total) : T(0);
        double loss = 0.0;
        for (index_t start = 0; start < size; start += plan_.chunk) {
            const index_t rows = size - start < plan_.chunk ? size - start : plan_.chunk;
            const index_t ld = plan_.embedding.kind ? plan_.embedding.input_spread : plan_.linear[0].in_spread;
            T* x = memory_ + (plan_.embedding.kind ? plan_.embedding.input : plan_.input);
            for (index_t r = 0; r < rows; r++)
                std::memcpy(x + r * ld, static_cast<const T*>(job_.x_train) + order[start + r] * job_.inputs,
                            sizeof(T) * size_t(job_.inputs));
            const Pass pass = {start, start + rows == size ? size : 0};
            forward(x, ld, rows, &pass);
            loss += score(rows, job_.y_train, job_.w_train, 0, order + start, scale, smoothing, true).loss;
            const T* delta = backward(rows, start > 0);
            if (plan_.embedding.kind) embedded_.backward(x, ld, rows, delta, g_, start > 0);
        }
        for (index_t l = 0; ntk_ && l < plan_.linears; l++) scale_weights(plan_.linear[l], g_);
        return loss;
    }

    // a chunk of a minibatch in training: its first example; the batch's size where it ends it, else 0
    struct Pass {
        index_t start, size;
    };

    void forward(const T* input, index_t lda, index_t rows, const Pass* training = nullptr) {
        if (plan_.embedding.kind) {
            embedded_.forward(weights_, input, lda, rows);
            input = memory_ + plan_.input, lda = plan_.linear[0].in_spread;
        }
        for (index_t l = 0; l < plan_.linears; l++) {
            const Linear& at = plan_.linear[l];
            T* z = memory_ + at.output;
            for (index_t c = 0; c < at.out; c += kPanel<T>) {
                const index_t width = panel_width<T>(at.out, c);
                multiply_panel<T, false>(rows, at.in, width, input, lda, weights_ + at.panels + c * at.in, width,
                                         weights_ + at.panel_bias + c, 0, z + c, at.out_spread);
            }
            const bool hidden = l + 1 < plan_.linears;
            if (at.normed) normalise(at, z, rows, training != nullptr);
            if (hidden) activate(activation_, z, memory_ + at.slope, rows * at.out_spread);
            if (training && flow_) observe(l, rows, training->start == 0, training->size);
            if (training && hidden && dropout_.on)
                drop(dropout_, activation_, l, training->start, z, memory_ + at.slope, at.out_spread, rows,
                     padded<T>(at.out));
            else if (training && hidden && residual_)
                keep_slopes(activation_, z, memory_ + at.slope, rows * at.out_spread);
            if (skips(l)) add_to(z, input, rows * at.out_spread);
            input = z, lda = at.out_spread;
        }
    }

    void normalise(const Linear& at, T* z, index_t rows, bool training) {
        const T *scale = weights_ + at.scale, *shift = weights_ + at.shift;
        T *centred = memory_ + at.centred, *inverse = memory_ + at.inverse;
        T *mean = theta_ + at.mean, *variance = theta_ + at.variance;
        if (job_.normalization == kLayerNorm)
            normalise_layer(z, at.out_spread, rows, at.out, scale, shift, centred, inverse);
        else if (training)
            normalise_batch(z, at.out_spread, rows, at.out, scale, shift, centred, inverse, mean, variance);
        else normalise_running(z, at.out_spread, rows, at.out, scale, shift, mean, variance);
    }

    Score score(index_t rows, const void* y, const void* w, index_t start, const index_t* order, T scale, T smoothing,
                bool gradient) {
        const T* weights = w ? static_cast<const T*>(w) + start : nullptr;
        const Linear& last = plan_.linear[plan_.linears - 1];
        T* z = memory_ + last.output;
        if (!job_.classify)
            return squared_error(z, last.out_spread, rows, static_cast<const T*>(y) + start, weights, order, scale,
                                 gradient);
        return cross_entropy(z, last.out_spread, rows, last.out, static_cast<const index_t*>(y) + start, weights, order,
                             scale, smoothing, gradient, memory_ + plan_.sums);
    }

    // from the gradient of the outputs to that of every weight; each layer's gradient takes its activation's place.
    // Gives that of the first Linear's input, where an embedding needs it.
    const T* backward(index_t rows, bool add) {
        for (index_t l = plan_.linears - 1;; l--) {
            const Linear& at = plan_.linear[l];
            const T* dz = memory_ + at.output;
            const T* below = memory_ + (l > 0 ? plan_.linear[l - 1].output : plan_.input);
            for (index_t c = 0; c < at.out; c += kPanel<T>) {
                const index_t width = panel_width<T>(at.out, c);
                T* g = g_ + at.panels + c * at.in;
                multiply_panel<T, true>(at.in, rows, width, below, at.in_spread, dz + c, at.out_spread,
                                        add ? g : kZeros<T>, add ? width : 0, g, width);
            }
            // a bias in front of a batch normalisation stays at zero: a mean takes it away again (models/mlp.py)
            if (!at.normed || job_.normalization != kBatchNorm)
                sum_rows(dz, at.out_spread, rows, at.out, add, g_ + at.panel_bias);
            if (l == 0 && !plan_.embedding.kind) return nullptr;
            // of this layer's input; where that is added to its output, the gradient of the latter lies in the other one
            T* delta = memory_ + (residual_ && l % 2 ? plan_.other_delta : plan_.delta);
            const T* beside = memory_ + (l % 2 ? plan_.delta : plan_.other_delta);
            for (index_t c = 0; c < at.in; c += kPanel<T>) {
                const index_t width = panel_width<T>(at.in, c);
                multiply_panel<T, false>(rows, at.out, width, dz, at.out_spread, memory_ + at.back + c * at.out, width,
                                         skips(l) ? beside + c : kZeros<T>, skips(l) ? at.in_spread : 0, delta + c,
                                         at.in_spread);
            }
            if (l == 0) return delta;
            const Linear& under = plan_.linear[l - 1];
            T *a = memory_ + under.output, *slope = memory_ + under.slope;
            if (dropout_.on || residual_) retreat_by_slope(a, slope, delta, rows * under.out_spread);
            else retreat(activation_, a, slope, delta, rows * under.out_spread);
            if (under.normed) normalise_backward(under, a, rows, add);
        }
    }

    void normalise_backward(const Linear& at, T* dy, index_t rows, bool add) {
        const T *scale = theta_ + at.scale, *centred = memory_ + at.centred, *inverse = memory_ + at.inverse;
        T *of_scale = g_ + at.scale, *of_shift = g_ + at.shift;
        if (job_.normalization == kLayerNorm)
            layer_backward(dy, at.out_spread, rows, at.out, scale, centred, inverse, add, of_scale, of_shift);
        else batch_backward(dy, at.out_spread, rows, at.out, scale, centred, inverse, of_scale, of_shift);
    }

    // clip by the global norm, then the update rule; `at`: where this step's numbers lie; returns the norm before clipping
    double step(index_t slot, index_t at, index_t t) {
        const double length = norm(g_, plan_.parameters), bound = job_.clip[slot];
        const double lr = job_.rates ? job_.rates[at] : job_.lr[slot];
        double share = 1.0;
        if (bound < std::numeric_limits<double>::infinity()) {
            share = bound / (length + 1e-6);
            share = share > 1.0 ? 1.0 : share;
        }
        clipped_ += share < 1.0;
        if (flow_) before_step();
        const Rule<T> rule = rule_of(slot, at, t, lr);
        const auto update_of = scaled_ ? (momentum_ ? update<T, true, true> : update<T, false, true>)
                                       : (momentum_ ? update<T, true, false> : update<T, false, false>);
        const auto step = job_.optimizer[slot] == kLion ? update<T, true, false, true> : update_of;
        step(rule, T(share), plan_.parameters, theta_, m_, v_, g_);
        // 10 / (t + 9): averages.py
        if (averaged_) blend(average_, theta_, T(std::max(1.0 - job_.ema[slot], 10.0 / (t + 9.0))), plan_.parameters);
        if (flow_) after_step();
        return length;
    }

    Rule<T> rule_of(index_t slot, index_t at, index_t t, double lr) const {
        const bool nadam = job_.optimizer[slot] == kNadam, adagrad = job_.optimizer[slot] == kAdagrad;
        const bool corrected = job_.corrected[slot] != 0.0, nesterov = job_.nesterov[slot] != 0.0;
        const double b1 = job_.b1[slot], b2 = adagrad ? 1.0 - 1.0 / double(t) : job_.b2[slot];
        const double c1 = corrected && !nadam ? 1.0 / (1.0 - power(b1, t)) : 1.0;
        const double c2 = adagrad ? double(t) : corrected ? 1.0 / (1.0 - power(b2, t)) : 1.0;
        const bool lion = job_.optimizer[slot] == kLion;  // its column nesterov is a share, see models/update.py
        const double q = lion ? job_.nesterov[slot] : 1.0, share_d = nadam ? job_.share_d[at] : q;
        const double share_m = nadam ? job_.share_m[at] : lion ? 1.0 - q : b1;
        return {T(1.0 - lr * job_.wd_decoupled[slot]), T(job_.wd_coupled[slot]), T(b1), T(job_.cg[slot]), T(b2),
                T(1.0 - b2), T(c2), T(job_.eps[slot]), T(lr * c1), nesterov || nadam || lion, T(share_d), T(share_m)};
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
            flow_[l * kStatistics] = wide_norm<false>(g_ + at.begin, nullptr, at.end - at.begin);
            flow_[l * kStatistics + 1] = wide_norm<false>(theta_ + at.begin, nullptr, at.end - at.begin);
        }
    }

    void after_step() {
        for (index_t l = 0; l < plan_.linears; l++) {
            const Linear& at = plan_.linear[l];
            const double moved = wide_norm<true>(theta_ + at.begin, memory_ + plan_.before + at.begin,
                                                 at.end - at.begin);
            double* numbers = flow_ + l * kStatistics;
            numbers[2] = moved > 0.0 ? moved / numbers[1] : 0.0;
        }
    }

    // ---- validation

    // the network's outputs on a chunk of validation rows, which the score writes over
    void hand_out(index_t number, index_t start, index_t rows) {
        const Linear& last = plan_.linear[plan_.linears - 1];
        T* to = static_cast<T*>(job_.outputs) + (number * job_.val + start) * last.out;
        for (index_t r = 0; r < rows; r++)
            std::memcpy(to + r * last.out, memory_ + last.output + r * last.out_spread, sizeof(T) * size_t(last.out));
    }

    void evaluate(index_t number) {
        const index_t D = job_.inputs;
        const double counted = total_weight(job_.w_val, nullptr, 0, job_.val);
        double loss = 0.0, right = 0.0;
        for (index_t start = 0; start < job_.val; start += plan_.chunk) {
            const index_t rows = job_.val - start < plan_.chunk ? job_.val - start : plan_.chunk;
            forward(static_cast<const T*>(job_.x_val) + start * D, D, rows);
            if (job_.outputs) hand_out(number, start, rows);
            const Score part = score(rows, job_.y_val, job_.w_val, start, nullptr, T(1), T(0), false);
            loss += part.loss, right += part.right;
        }
        loss /= counted;
        job_.val_loss[number] = loss;
        job_.val_metric[number] = job_.classify ? right / counted : std::sqrt(loss);
    }
};

}  // namespace
