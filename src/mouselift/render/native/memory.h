// The kernel's working memory. Large pieces are kept for the next call: getting them from the system anew, a page at a
// time and filled with zeros, took a third of a large backward pass.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace mouselift {

class Memory {
 public:
  // At least `bytes`, from the start of a cache line; `bytes` becomes what was given.
  static void* take(int64_t& bytes) {
    bytes = rounded(bytes);
    if (bytes >= kHugePage) {
      Memory& memory = shared();
      const std::lock_guard<std::mutex> guard(memory.lock_);
      auto& kept = memory.kept_;
      auto best = kept.end();
      for (auto piece = kept.begin(); piece != kept.end(); ++piece) {
        if (piece->bytes >= bytes && piece->bytes <= 2 * bytes && (best == kept.end() || piece->bytes < best->bytes)) {
          best = piece;
        }
      }
      if (best != kept.end()) {
        void* const found = best->start;
        bytes = best->bytes;
        memory.kept_bytes_ -= bytes;
        kept.erase(best);
        return found;
      }
    }
    return fresh(bytes);
  }

  static void give_back(void* start, int64_t bytes) {
    if (bytes < kHugePage) return end(start, bytes);
    Memory& memory = shared();
    const std::lock_guard<std::mutex> guard(memory.lock_);
    memory.kept_.push_back({start, bytes});
    memory.kept_bytes_ += bytes;
    while (memory.kept_bytes_ > kMostKept) {  // the oldest first
      end(memory.kept_.front().start, memory.kept_.front().bytes);
      memory.kept_bytes_ -= memory.kept_.front().bytes;
      memory.kept_.erase(memory.kept_.begin());
    }
  }

 private:
  static constexpr int64_t kHugePage = int64_t{2} << 20, kCacheLine = 64, kMostKept = int64_t{256} << 20;
  struct Piece {
    void* start;
    int64_t bytes;
  };

  static int64_t rounded(int64_t bytes) {
    const int64_t unit = bytes >= kHugePage / 8 ? kHugePage : kCacheLine;  // from 256 KiB on, whole huge pages
    return std::max(unit, (bytes + unit - 1) / unit * unit);
  }

  // Huge pieces come from the system itself: among those of others they would keep the heap from shrinking.
  static void* fresh(int64_t bytes) {
#if defined(__linux__)
    if (bytes >= kHugePage) {
      void* const mapped = mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (mapped == MAP_FAILED) throw std::bad_alloc();
      const int64_t before = -reinterpret_cast<intptr_t>(mapped) & (kHugePage - 1);  // to where huge pages may start
      char* const start = static_cast<char*>(mapped) + before;
      if (before) munmap(mapped, before);
      munmap(start + bytes, kHugePage - before);
      madvise(start, bytes, MADV_HUGEPAGE);  // a wish: nothing depends on it
      return start;
    }
#endif
    void* const start = std::aligned_alloc(kCacheLine, bytes);
    if (!start) throw std::bad_alloc();
    return start;
  }

  static void end(void* start, [[maybe_unused]] int64_t bytes) {
#if defined(__linux__)
    if (bytes >= kHugePage) {
      munmap(start, bytes);
      return;
    }
#endif
    std::free(start);
  }

  // Never destroyed: threads may render until the process ends.
  static Memory& shared() {
    static Memory* const memory = new Memory;
    return *memory;
  }

  std::mutex lock_;
  std::vector<Piece> kept_;
  int64_t kept_bytes_ = 0;
};

// Uninitialised memory that starts on a cache line.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t count) {
    int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    T* const start = static_cast<T*>(Memory::take(bytes));
    data_ = {start, GiveBack{bytes}};
  }
  T* data() const { return data_.get(); }
  T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  struct GiveBack {
    int64_t bytes = 0;
    void operator()(T* start) const { Memory::give_back(start, bytes); }
  };
  std::unique_ptr<T, GiveBack> data_;
};

}  // namespace mouselift
