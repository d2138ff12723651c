// Memory and threads, the little that the kernel needs of either.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <new>

namespace mouselift {

// Uninitialised memory that starts on a cache line.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t count) : data_(static_cast<T*>(::operator new[](count * sizeof(T), kCacheLine))) {}
  T* data() const { return data_.get(); }
  T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  static constexpr std::align_val_t kCacheLine{64};
  struct Delete {
    void operator()(T* p) const { ::operator delete[](p, kCacheLine); }
  };
  std::unique_ptr<T, Delete> data_;
};

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
