// The kernel's working memory. Large pieces are kept for the next call: to get fresh memory from the system, a page at a
// time and filled with zeros, would take as long as the work that is done with it.
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
    if (bytes < kHugePage) return std::free(start);
    Memory& memory = shared();
    const std::lock_guard<std::mutex> guard(memory.lock_);
    memory.kept_.push_back({start, bytes});
    memory.kept_bytes_ += bytes;
    while (memory.kept_bytes_ > kMostKept) {  // the oldest first
      std::free(memory.kept_.front().start);
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

  static void* fresh(int64_t bytes) {
    void* const start = std::aligned_alloc(bytes >= kHugePage ? kHugePage : kCacheLine, bytes);
    if (!start) throw std::bad_alloc();
#if defined(__linux__)
    if (bytes >= kHugePage) madvise(start, bytes, MADV_HUGEPAGE);  // a wish: nothing depends on it
#endif
    return start;
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
