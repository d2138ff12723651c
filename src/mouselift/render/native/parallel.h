// Threads, the little that the kernel needs of them.
#pragma once

#include <cstdint>
#include <exception>

namespace mouselift {

// Calls body(0) ... body(count - 1), in any order, by at most `threads` threads.
template <class Body>
void parallel_for(int64_t count, [[maybe_unused]] int threads, Body body) {
  std::exception_ptr failure;  // nothing may leave a parallel region by itself
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1 && count > 1)
#endif
  for (int64_t i = 0; i < count; ++i) {
    try {
      body(i);
    } catch (...) {
#ifdef _OPENMP
#pragma omp critical
#endif
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace mouselift
