// The layer that embeds inputs (models/embeddings.py): numbers by waves, the categories of a text column by a table.
//
//   plr   h = relu(W [cos 2 pi w x, sin 2 pi w x] + b)      pbld   h = [x, W cos(2 pi w x + p) + b]
//
// N numbers, k frequencies w of each, F waves, E of its outputs are made from them.
#pragma once

#include "native_plan.h"

namespace {

constexpr double kTwoPi = 6.283185307179586476925;

// sine and cosine of 2 pi u: u is brought within an eighth of a turn, exactly
template <class T> INLINE void turn(Vec<T> u, Vec<T>& sine, Vec<T>& cosine) {
    const T shift = sizeof(T) == 4 ? T(12582912.0) : T(6755399441055744.0);  // leaves an integer in the low bits
    const Vec<T> biased = fused<T>(u, T(4), shift);
    Vec<T> r = fused<T>(biased - shift, T(-0.25), u);
    r = r > T(0.125) ? splat(T(0.125)) : r;  // far out, where numbers lie further apart than a turn
    r = r < T(-0.125) ? splat(T(-0.125)) : r;
    const Vec<T> t = r * T(kTwoPi), z = t * t;
    Vec<T> s, c;
    if constexpr (sizeof(T) == 4) {
        s = polynomial<T>(z, {T(1.0 / 362880.0), T(-1.0 / 5040.0), T(1.0 / 120.0), T(-1.0 / 6.0)});
        c = polynomial<T>(z, {T(-1.0 / 3628800.0), T(1.0 / 40320.0), T(-1.0 / 720.0), T(1.0 / 24.0), T(-0.5), T(1)});
    } else {
        s = polynomial<T>(z, {T(1.0 / 355687428096000.0), T(-1.0 / 1307674368000.0), T(1.0 / 6227020800.0),
                              T(-1.0 / 39916800.0), T(1.0 / 362880.0), T(-1.0 / 5040.0), T(1.0 / 120.0),
                              T(-1.0 / 6.0)});
        c = polynomial<T>(z, {T(1.0 / 20922789888000.0), T(-1.0 / 87178291200.0), T(1.0 / 479001600.0),
                              T(-1.0 / 3628800.0), T(1.0 / 40320.0), T(-1.0 / 720.0), T(1.0 / 24.0), T(-0.5), T(1)});
    }
    s = fused(s * z, t, t);
    const IntVec<T> quarter = (IntVec<T>)biased;
    const auto odd = (quarter & 1) != 0;
    const Vec<T> at_sine = odd ? c : s, at_cosine = odd ? s : c;
    sine = (quarter & 2) != 0 ? -at_sine : at_sine;
    cosine = ((quarter + 1) & 2) != 0 ? -at_cosine : at_cosine;
}

template <class T> class Embedded {
  public:
    Embedded(const Job& job, const Plan<T>& plan, T* memory)
        : job_(job), plan_(plan), at_(plan.embedding), memory_(memory), made_(memory + at_.outputs) {}

    // the first Linear's input for `rows` examples x, `ldx` apart, with the parameters of the plane `theta`
    void forward(const T* theta, const T* x, index_t ldx, index_t rows) {
        T* out = memory_ + plan_.input;
        for (index_t n = 0; n < at_.numbers; n++) {
            const T* own = theta + n * at_.each;
            wave(own, n, x + job_.numbers[n], ldx, rows);
            for (index_t c = 0; c < at_.made; c += kPanel<T>) {
                const index_t width = panel_width<T>(at_.made, c);
                multiply_panel<T, false>(rows, at_.waves, width, waves(n), at_.wave_spread,
                                         own + at_.panels + c * at_.waves, width, own + at_.bias + c, 0, made_ + c,
                                         at_.made_spread);
            }
            for (index_t r = 0; r < rows; r++) {
                T* to = out + r * ldo() + n * at_.size;
                if (at_.linear) *to++ = x[r * ldx + job_.numbers[n]];
                for (index_t j = 0; j < at_.made; j += L) {  // what lies beyond them is written later
                    const Vec<T> e = load(made_ + r * at_.made_spread + j);
                    store(to + j, at_.linear ? e : e <= T(0) ? Vec<T>{} : e);
                }
            }
        }
        for (index_t r = 0; r < rows; r++) {
            T* to = out + r * ldo() + at_.numbers * at_.size;
            for (index_t i = 0; i < at_.passed; i++) *to++ = x[r * ldx + job_.passed[i]];
            for (index_t i = 0; i < at_.columns; i++, to += at_.category_size) look_up(theta, i, x + r * ldx, to);
        }
    }

    // from the gradient of that input, `delta`, to those of the parameters, in the plane g
    void backward(const T* x, index_t ldx, index_t rows, const T* delta, T* g, bool add) {
        for (index_t n = 0; n < at_.numbers; n++) number_backward(n, x + job_.numbers[n], ldx, rows, delta, g, add);
        if (at_.columns && !add) std::memset(g + at_.table(0), 0, sizeof(T) * size_t(at_.categories * at_.table_width));
        const index_t start = at_.numbers * at_.size + at_.passed;
        for (index_t r = 0; r < rows; r++)
            for (index_t i = 0; i < at_.columns; i++) {
                const T* from = delta + r * ldo() + start + i * at_.category_size;
                each_category(x + r * ldx, i, [&](index_t category, T value) {
                    T* to = g + at_.table(category);
                    for (index_t j = 0; j < at_.category_size; j += L)
                        store(to + j, fused<T>(within(j, at_.category_size, load(from + j)), value, load(to + j)));
                });
            }
    }

  private:
    const Job& job_;
    const Plan<T>& plan_;
    const EmbeddingPlan& at_;
    T *memory_, *made_;  // made (rows x E) of one number, or their gradient

    static constexpr index_t L = kLanes<T>;

    index_t ldo() const { return plan_.linear[0].in_spread; }
    T* waves(index_t n) const { return memory_ + at_.cosines + n * plan_.chunk * at_.wave_spread; }
    T* sines(index_t n) const {  // of an example behind its cosines, or apart where they are no waves
        return at_.linear ? memory_ + at_.sines + n * plan_.chunk * at_.wave_spread : waves(n) + at_.frequencies;
    }
    static Vec<T> within(index_t j, index_t n, Vec<T> x) { return lanes<T>() + T(j) < T(n) ? x : Vec<T>{}; }

    void wave(const T* own, index_t n, const T* x, index_t ldx, index_t rows) {
        const index_t last = (at_.frequencies - 1) / L * L;
        for (index_t r = 0; r < rows; r++) {
            const T value = x[r * ldx];
            T *cosines = waves(n) + r * at_.wave_spread, *its_sines = sines(n) + r * at_.wave_spread;
            for (index_t j = last; j >= 0; j -= L) {  // the last cosines lie over the first sines until these come
                Vec<T> u = load(own + j) * value, s, c;
                if (at_.linear) u = fused<T>(load(own + at_.phases + j), T(1.0 / kTwoPi), u);
                turn<T>(u, s, c);
                store(cosines + j, c);
                store(its_sines + j, s);
            }
        }
    }

    template <class Visit> void each_category(const T* x, index_t column, Visit visit) const {
        index_t category = 0;
        for (index_t i = 0; i < column; i++) category += job_.categories[2 * i + 1] - job_.categories[2 * i];
        for (index_t at = job_.categories[2 * column]; at < job_.categories[2 * column + 1]; at++, category++)
            if (x[at] != T(0)) visit(category, x[at]);
    }

    void look_up(const T* theta, index_t column, const T* x, T* to) {
        for (index_t j = 0; j < at_.category_size; j += L) store(to + j, Vec<T>{});
        each_category(x, column, [&](index_t category, T value) {
            const T* table = theta + at_.table(category);
            for (index_t j = 0; j < at_.category_size; j += L)
                store(to + j, fused<T>(load(table + j), value, load(to + j)));
        });
    }

    // with e = W f + b:  dW = de f^T,  db = sum de,  df = W^T de,  dw = 2 pi sum dz x with z the angle
    void number_backward(index_t n, const T* x, index_t ldx, index_t rows, const T* delta, T* g, bool add) {
        const T *out = memory_ + plan_.input + n * at_.size, *f = waves(n);
        const index_t skip = at_.linear ? 1 : 0;
        for (index_t r = 0; r < rows; r++)
            for (index_t j = 0; j < padded<T>(at_.made); j += L) {
                const Vec<T> d = within(j, at_.made, load(delta + r * ldo() + n * at_.size + skip + j));
                const bool all = at_.linear;
                store(made_ + r * at_.made_spread + j, all ? d : load(out + r * ldo() + j) > T(0) ? d : Vec<T>{});
            }
        T *own = g + n * at_.each, *df = memory_ + at_.wave_delta;
        for (index_t c = 0; c < at_.made; c += kPanel<T>) {
            const index_t width = panel_width<T>(at_.made, c);
            T* to = own + at_.panels + c * at_.waves;
            multiply_panel<T, true>(at_.waves, rows, width, f, at_.wave_spread, made_ + c, at_.made_spread,
                                    add ? to : kZeros<T>, add ? width : 0, to, width);
        }
        sum_rows(made_, at_.made_spread, rows, at_.made, add, own + at_.bias);
        const T* back = memory_ + at_.back + n * at_.back_length;
        for (index_t c = 0; c < at_.waves; c += kPanel<T>) {
            const index_t width = panel_width<T>(at_.waves, c);
            multiply_panel<T, false>(rows, at_.made, width, made_, at_.made_spread, back + c * at_.made, width,
                                     kZeros<T>, 0, df + c, at_.wave_spread);
        }
        for (index_t j = 0; j < at_.frequencies; j += L) {
            Vec<T> moved{}, turned{};
            for (index_t r = 0; r < rows; r++) {
                const T* row = df + r * at_.wave_spread + j;
                Vec<T> dz = -(load(row) * load(sines(n) + r * at_.wave_spread + j));
                if (!at_.linear) dz = fused(load(row + at_.frequencies), load(f + r * at_.wave_spread + j), dz);
                moved = fused<T>(dz, x[r * ldx], moved);
                turned += dz;
            }
            collect(own + j, within(j, at_.frequencies, moved * T(kTwoPi)), add);
            if (at_.linear) collect(own + at_.phases + j, within(j, at_.frequencies, turned), add);
        }
    }

    static void collect(T* to, Vec<T> x, bool add) { store(to, add ? load(to) + x : x); }
};

}  // namespace
