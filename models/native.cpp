// One epoch of a cohort of MLPs on a CPU: each row runs through all its minibatches alone, its weights, optimizer
// state and activations staying in the core's cache. Rows share nothing, so a row's numbers cannot depend on its
// neighbours, its slot or the number of threads. Built several times, once per instruction set (setup.py).

#include <atomic>
#include <thread>

#include "native_row.h"

namespace {

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
    const Plan<T> plan(job);
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

EXPORT index_t cohort_workspace_f32(const Job* job) { return Plan<float>(*job).total * 4; }  // bytes for one thread
EXPORT index_t cohort_workspace_f64(const Job* job) { return Plan<double>(*job).total * 8; }
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
