// Which Gaussians each tile sees, nearest first: project all of them, sort the visible ones once by depth, deal them
// out to the tiles in that order. Work is cut into (view, part) items of a fixed order, so that the result does not
// depend on the number of threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "memory.h"
#include "parallel.h"
#include "projection.h"
#include "tiles.h"

namespace mouselift {

constexpr int64_t kPage = 1024;  // Gaussians that are projected as one item of work
constexpr int64_t kPart = 16384;  // Gaussians that are worth waking a thread for when they are sorted
constexpr int kMaxDigitBits = 12;
static_assert(kPage % kLanes == 0, "pages begin with whole vectors");

// How far a tile looked: the end, within the lists of all tiles, and the last Gaussian when there were more.
struct TileReach {
  int64_t end = 0, gaussian = 0;
  float z = std::numeric_limits<float>::infinity();
};

// What the backward pass needs of one view.
struct BinnedView {
  Camera camera;
  int tile_columns, tile_rows;
  Buffer<Ellipse> ellipses;           // (N), in the order of the scene
  std::vector<int64_t> page_slot;     // first gradient slot of each page, and the total
  std::vector<int64_t> tile_begin;    // (tiles + 1), into `order`
  Buffer<uint32_t> order;             // Gaussians of each tile, nearest first
  Buffer<uint64_t> hits;              // for each of them, the blocks of the tile in which it was seen; for the way back
  std::vector<TileReach> tile_reach;  // (tiles)

  int tiles() const { return tile_columns * tile_rows; }
  Tile tile(int64_t index) const {
    const int column = static_cast<int>(index % tile_columns), row = static_cast<int>(index / tile_columns);
    return {column * kTileWidth, row * kTileHeight, column, row};
  }
  int64_t slot(int64_t gaussian) const { return page_slot[gaussian / kPage] + ellipses[gaussian].slot; }
  // Notes how far down its list a tile looked before it was full.
  void finish_tile(int64_t index, const uint32_t* end) {
    tile_reach[index].end = end - order.data();
    if (tile_reach[index].end == tile_begin[index + 1]) return;
    tile_reach[index].gaussian = end[-1], tile_reach[index].z = ellipses[end[-1]].z();
  }
  // Whether a tile got as far as a Gaussian of its list, which is in the order of (z, gaussian).
  bool reached(int64_t tile_index, int64_t gaussian, float z) const {
    const TileReach& last = tile_reach[tile_index];
    return z < last.z || (z == last.z && gaussian <= last.gaussian);
  }
};

struct TileBox {
  int16_t x0, y0, x1, y1;  // inclusive
  explicit TileBox(const Ellipse& e)
      : x0(e.x0 / kTileWidth), y0(e.y0 / kTileHeight), x1(e.x1 / kTileWidth), y1(e.y1 / kTileHeight) {}
  int width() const { return x1 - x0 + 1; }
  int count() const { return width() * (y1 - y0 + 1); }
};

// A depth and the Gaussian that has it. Positive floats sort like their bits.
struct Item {
  uint32_t key, gaussian;
};

struct alignas(64) Page {  // a cache line: threads count side by side
  int64_t visible = 0, slots = 0;
  uint32_t min_key = ~uint32_t{0}, max_key = 0;
};

// Scratch of one view between projection and the finished lists.
struct Sorting {
  Buffer<Item> items, spare;
  Buffer<TileBox> boxes;
  std::vector<Page> pages;
  std::vector<int64_t> counters;  // (parts, digits or tiles)
  int64_t visible = 0;
  uint32_t min_key = 0;
  int passes = 0, digit_bits = 0;
};

inline float log2_threshold(const SplatConstants& constants) { return std::log2(constants.min_alpha); }

// The pixels in which each lane's alpha can reach the threshold, and which lanes have any.
struct PixelBoxes {
  alignas(64) float x0[kLanes], x1[kLanes], y0[kLanes], y1[kLanes];  // of pixel centres, clipped to the image
  uint32_t seen;                                                     // one bit for each lane
};

inline PixelBoxes pixel_boxes(const GaussianLanes& g, const Projection& p, Vec peak, const Camera& camera,
                              const SplatConstants& constants) {
  // alpha >= threshold inside dx^2 <= reach cov_xx; the margins cover the rounding of what follows
  const Vec reach = (peak - log2_threshold(constants)) * (2.0f / kLog2E);
  const Vec half_x = square_root(reach * p.cov_xx) * 1.0001f + 0.001f;
  const Vec half_y = square_root(reach * p.cov_yy) * 1.0001f + 0.001f;
  const Vec x0 = p.column - half_x - 0.5f, x1 = p.column + half_x - 0.5f;
  const Vec y0 = p.row - half_y - 0.5f, y1 = p.row + half_y - 0.5f;
  const Vec right = splat(camera.width - 1.0f), bottom = splat(camera.height - 1.0f);
  // Comparisons with NaN are false, and 0 times infinity is NaN.
  const Vec finite = 0.0f * (p.a + p.b + p.c + p.z + g.opacity);
  Mask visible = both(less(splat(constants.near_plane), p.z), at_least(g.opacity, splat(constants.min_alpha)));
  visible = both(visible, both(at_least(x1, Vec{}), at_least(right, x0)));
  visible = both(visible, both(at_least(y1, Vec{}), at_least(bottom, y0)));
  PixelBoxes boxes;
  boxes.seen = bits(both(visible, at_least(finite, Vec{})));
  store(boxes.x0, maximum(x0, Vec{})), store(boxes.x1, minimum(x1, right));
  store(boxes.y0, maximum(y0, Vec{})), store(boxes.y1, minimum(y1, bottom));
  return boxes;
}

// Notes what lane k, Gaussian i of the scene, looks like in one view, and lists it if it can be seen.
struct Seen {
  const Projection& p;
  const Whitening& t;
  const Vec& peak;
  const PixelBoxes& boxes;
};

inline void note(const Seen& seen, int k, int64_t i, const float* colour, Ellipse& e, Page& stats, Item* items,
                 TileBox* boxes) {
  e.slot = stats.slots;
  e.x0 = 0, e.x1 = -1;
  const PixelBoxes& box = seen.boxes;
  if (!(box.seen >> k & 1) || !std::isfinite(colour[0] + colour[1] + colour[2])) return;
  const int left = static_cast<int>(std::ceil(box.x0[k])), right = static_cast<int>(box.x1[k]);
  const int top = static_cast<int>(std::ceil(box.y0[k])), bottom = static_cast<int>(box.y1[k]);
  if (left > right || top > bottom) return;  // between two pixel centres
  e.x = seen.p.column[k], e.y = seen.p.row[k];
  e.ux = seen.t.ux[k], e.uy = seen.t.uy[k], e.wy = seen.t.wy[k], e.peak = seen.peak[k];
  std::copy_n(colour, 3, e.values), e.values[3] = seen.p.z[k];
  e.x0 = static_cast<int16_t>(left), e.x1 = static_cast<int16_t>(right);
  e.y0 = static_cast<int16_t>(top), e.y1 = static_cast<int16_t>(bottom);
  boxes[i] = TileBox(e);
  stats.slots += boxes[i].count();
  uint32_t key;
  std::memcpy(&key, &e.values[3], sizeof key);
  stats.min_key = std::min(stats.min_key, key), stats.max_key = std::max(stats.max_key, key);
  items[stats.visible++] = {key, static_cast<uint32_t>(i)};
}

// Lanes whose features are all finite, one bit each.
inline uint32_t finite_features(const SceneView& scene, int64_t channels, int64_t first, int n) {
  uint32_t finite = ~0u;
  for (int k = 0; k < n && channels; ++k) {
    const float* features = scene.features + (first + k) * channels;
    float zero = 0;
    for (int64_t c = 0; c < channels; ++c) zero += 0.0f * features[c];
    if (!(zero == 0)) finite &= ~(1u << k);
  }
  return finite;
}

// Projects one page into `count` views of one scene, and lists what of it can be seen in each. NaN or infinity anywhere
// in a Gaussian hides it.
inline void project_page(const SplatBatch& batch, const SplatConstants& constants, int64_t page, int64_t first_view,
                         int64_t count, BinnedView* views, Sorting* sortings) {
  const int64_t page_end = std::min(batch.count, (page + 1) * kPage);
  for (int64_t v = 0; v < count; ++v) sortings[v].pages[page] = Page{};
  for (int64_t first = page * kPage; first < page_end; first += kLanes) {
    const int n = static_cast<int>(std::min<int64_t>(kLanes, page_end - first));
    const GaussianLanes g = load_gaussians(scene_view(batch, first_view), first, n);
    const Orientation o(g);
    const Vec peak = log2(g.opacity);
    for (int64_t v = 0; v < count; ++v) {
      const SceneView scene = scene_view(batch, first_view + v);
      const Projection p = project(g, o, views[v].camera, constants.dilation_px2);
      PixelBoxes boxes = pixel_boxes(g, p, peak, views[v].camera, constants);
      boxes.seen &= finite_features(scene, batch.channels, first, n);
      const Whitening t(p);
      for (int k = 0; k < n; ++k) {
        note({p, t, peak, boxes}, k, first + k, scene.colours + 3 * (first + k), views[v].ellipses[first + k],
             sortings[v].pages[page], sortings[v].items.data() + page * kPage, sortings[v].boxes.data());
      }
    }
  }
}

// Adds up what the pages found.
inline void summarise_pages(BinnedView& view, Sorting& sorting) {
  uint32_t max_key = 0;
  sorting.min_key = ~uint32_t{0};
  view.page_slot.assign(1, 0);
  for (const Page& page : sorting.pages) {
    sorting.visible += page.visible;
    sorting.min_key = std::min(sorting.min_key, page.min_key), max_key = std::max(max_key, page.max_key);
    view.page_slot.push_back(view.page_slot.back() + page.slots);
  }
  // Only the bits in which depths differ are sorted: two passes instead of three where far/near is below 4.
  int key_bits = 1;
  while (sorting.visible && key_bits < 32 && (max_key - sorting.min_key) >> key_bits) ++key_bits;
  sorting.passes = (key_bits + kMaxDigitBits - 1) / kMaxDigitBits;
  sorting.digit_bits = (key_bits + sorting.passes - 1) / sorting.passes;
}

// Runs `body(run_begin, run_end)` over the items of one part. Before the first pass they lie in pages with gaps.
template <class Body>
void for_each_run(const Sorting& sorting, bool in_pages, int64_t part, int64_t parts, Body body) {
  const int64_t total = in_pages ? static_cast<int64_t>(sorting.pages.size()) : sorting.visible;
  const int64_t begin = total * part / parts, end = total * (part + 1) / parts;
  if (!in_pages) return body(begin, end);
  for (int64_t page = begin; page < end; ++page) body(page * kPage, page * kPage + sorting.pages[page].visible);
}

// Turns counts (part, bin) into where each part writes its first entry of each bin: bins first, parts within.
inline int64_t to_offsets(std::vector<int64_t>& counters, int64_t parts, int64_t bins, int64_t* bin_begin) {
  int64_t sum = 0;
  for (int64_t bin = 0; bin < bins; ++bin) {
    if (bin_begin) bin_begin[bin] = sum;
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t count = counters[part * bins + bin];
      counters[part * bins + bin] = sum;
      sum += count;
    }
  }
  return sum;
}

// A run of views (of S * V) that goes through the stages together.
class Binning {
 public:
  Binning(const SplatBatch& batch, const SplatConstants& constants, int64_t first, int64_t count, BinnedView* views,
          int threads)
      : views_(views), threads_(threads), sortings_(count) {
    const int64_t pages = (batch.count + kPage - 1) / kPage;
    parts_ = std::max<int64_t>(1, std::min((threads + count - 1) / count, batch.count / kPart));
    for (int64_t v = 0; v < count; ++v) prepare(batch, constants, first + v, views[v], sortings_[v]);
    const int64_t first_scene = first / batch.views, last_scene = (first + count - 1) / batch.views;
    parallel_for((last_scene - first_scene + 1) * pages, threads, [&](int64_t item) {
      const int64_t scene = first_scene + item / pages;
      const int64_t from = std::max(first, scene * batch.views);
      const int64_t to = std::min(first + count, (scene + 1) * batch.views);
      project_page(batch, constants, item % pages, from, to - from, &views_[from - first], &sortings_[from - first]);
    });
    for (int64_t v = 0; v < count; ++v) summarise_pages(views_[v], sortings_[v]);
    sort();
    deal();
  }

 private:
  template <class Body>
  void for_each_part(Body body) {
    const int64_t views = static_cast<int64_t>(sortings_.size());
    parallel_for(views * parts_, threads_, [&](int64_t item) { body(item / parts_, item % parts_); });
  }

  static void prepare(const SplatBatch& batch, const SplatConstants& constants, int64_t index, BinnedView& view,
                      Sorting& s) {
    const SceneView scene = scene_view(batch, index);
    view.camera = make_camera(scene.w2c, scene.K, batch.width, batch.height, constants.jacobian_margin);
    view.tile_columns = (batch.width + kTileWidth - 1) / kTileWidth;
    view.tile_rows = (batch.height + kTileHeight - 1) / kTileHeight;
    view.ellipses = Buffer<Ellipse>(batch.count);
    s.items = Buffer<Item>(batch.count), s.spare = Buffer<Item>(batch.count);
    s.boxes = Buffer<TileBox>(batch.count);
    s.pages.resize((batch.count + kPage - 1) / kPage);
  }

  // Stable least-significant-digit radix sort by depth; ties keep the order of the scene.
  void sort() {
    int passes = 0;
    for (Sorting& s : sortings_) passes = std::max(passes, s.passes);
    for (int pass = 0; pass < passes; ++pass) {
      for (Sorting& s : sortings_) {
        if (pass < s.passes) s.counters.assign(parts_ << s.digit_bits, 0);
      }
      const auto digit = [pass](const Sorting& s, const Item& item) {
        return (item.key - s.min_key) >> (pass * s.digit_bits) & ((1u << s.digit_bits) - 1);
      };
      for_each_part([&](int64_t v, int64_t part) {
        Sorting& s = sortings_[v];
        if (pass >= s.passes) return;
        int64_t* counts = s.counters.data() + (part << s.digit_bits);
        for_each_run(s, pass == 0, part, parts_, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) ++counts[digit(s, s.items[i])];
        });
      });
      for (Sorting& s : sortings_) {
        if (pass < s.passes) to_offsets(s.counters, parts_, int64_t{1} << s.digit_bits, nullptr);
      }
      for_each_part([&](int64_t v, int64_t part) {
        Sorting& s = sortings_[v];
        if (pass >= s.passes) return;
        int64_t* next = s.counters.data() + (part << s.digit_bits);
        for_each_run(s, pass == 0, part, parts_, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) s.spare[next[digit(s, s.items[i])]++] = s.items[i];
        });
      });
      for (Sorting& s : sortings_) {
        if (pass < s.passes) std::swap(s.items, s.spare);
      }
    }
  }

  // Counting sort of the sorted Gaussians into tiles.
  void deal() {
    const auto visit = [&](int64_t v, int64_t part, auto body) {
      const Sorting& s = sortings_[v];
      int64_t* counters = sortings_[v].counters.data() + part * views_[v].tiles();
      const int columns = views_[v].tile_columns;
      for_each_run(s, false, part, parts_, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          __builtin_prefetch(&s.boxes[s.items[std::min(i + 16, end - 1)].gaussian]);
          const TileBox box = s.boxes[s.items[i].gaussian];
          for (int y = box.y0; y <= box.y1; ++y) {
            for (int x = box.x0; x <= box.x1; ++x) body(counters[y * columns + x], s.items[i].gaussian);
          }
        }
      });
    };
    for (int64_t v = 0; v < static_cast<int64_t>(sortings_.size()); ++v) {
      sortings_[v].counters.assign(parts_ * views_[v].tiles(), 0);
    }
    for_each_part([&](int64_t v, int64_t part) { visit(v, part, [](int64_t& count, uint32_t) { ++count; }); });
    for (int64_t v = 0; v < static_cast<int64_t>(sortings_.size()); ++v) {
      BinnedView& view = views_[v];
      view.tile_begin.resize(view.tiles() + 1);
      view.tile_begin.back() = to_offsets(sortings_[v].counters, parts_, view.tiles(), view.tile_begin.data());
      view.tile_reach.resize(view.tiles());
      view.order = Buffer<uint32_t>(view.tile_begin.back());
    }
    for_each_part([&](int64_t v, int64_t part) {
      uint32_t* order = views_[v].order.data();
      visit(v, part, [order](int64_t& next, uint32_t gaussian) { order[next++] = gaussian; });
    });
  }

  BinnedView* views_;
  int threads_;
  int64_t parts_ = 1;
  std::vector<Sorting> sortings_;
};

}  // namespace mouselift
