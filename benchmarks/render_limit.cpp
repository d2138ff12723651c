// What the kernel's own inner loops can do, measured apart from everything else: built by `render_limit.py` for one
// instruction set, from the kernel's sources.
#include <chrono>
#include <cmath>

#include "splat.cpp"

namespace {

using namespace mouselift;

double now_ns() {
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Sixty-four faint Gaussians that lie over the whole tile: everything is in the first cache, every branch is foreseen.
struct OneTile {
  alignas(64) Ellipse ellipses[64];
  uint32_t order[64];
  uint64_t hits[64];
  float image[3 * kTileWidth * kTileHeight], alpha[kTileWidth * kTileHeight], depth[kTileWidth * kTileHeight];
  float cotangent[3 * kTileWidth * kTileHeight], slot[kNumSums];
  Tile tile{0, 0, 0, 0};

  OneTile() {
    for (int i = 0; i < 64; ++i) {
      Ellipse& e = ellipses[i];
      e.x = 0.5f * kTileWidth + 0.1f * i, e.y = 0.5f * kTileHeight;
      e.ux = e.wy = 0.01f, e.uy = 0.001f, e.peak = std::log2(0.01f);
      for (int k = 0; k < kValues; ++k) e.values[k] = 0.1f + k;
      e.x0 = e.y0 = 0, e.x1 = kTileWidth - 1, e.y1 = kTileHeight - 1, e.slot = 0;
      order[i] = static_cast<uint32_t>(i);
    }
    std::fill_n(cotangent, 3 * kTileWidth * kTileHeight, 0.5f);
  }
  void forward(int count, const Thresholds& limits) {
    TileLight<ShownBlock> light(tile, kTileWidth, kTileHeight);
    composite(ellipses, order, order + count, tile, limits, OwnValues{}, hits, light);
    const float white[3] = {1, 1, 1};
    write_layers(light, tile, white, {image, alpha, depth, nullptr, 0, kTileWidth, kTileHeight});
  }
  void backward(int count, const Thresholds& limits) {
    const Layers result{image, alpha, depth, nullptr, 0, kTileWidth, kTileHeight};
    const Layers cotangents{cotangent, nullptr, nullptr, nullptr, 0, kTileWidth, kTileHeight};
    TileLight<CotangentBlock<3>> light(tile, kTileWidth, kTileHeight);
    read_cotangents(tile, result, cotangents, light);
    const auto slot_of = [&](uint32_t, const Ellipse&) { return slot; };
    composite_backward(ellipses, order, order + count, tile, limits, OwnValues{}, hits, light, slot_of);
  }
};

template <class Run>
double fastest_ns(int repeats, Run run) {
  double best = 1e30;
  for (int i = 0; i < repeats; ++i) {
    const double start = now_ns();
    run();
    best = std::min(best, now_ns() - start);
  }
  return best;
}

}  // namespace

extern "C" {

// Clock in GHz, by a chain of additions that takes one cycle each.
SPLAT_API double limit_ghz() {
  const double ns = fastest_ns(20, [] {
    uint64_t x = 0;
    for (int i = 0; i < 1000000; ++i) asm volatile("inc %0\n inc %0\n inc %0\n inc %0\n" : "+r"(x));
  });
  return 4e6 / ns;
}

// Nanoseconds of one thread for one (Gaussian, block), forward and backward.
SPLAT_API void limit_loops(const SplatConstants* constants, double* out) {
  const Thresholds limits = thresholds_of(*constants);
  const auto one = std::make_unique<OneTile>();
  const double full = fastest_ns(300, [&] { one->forward(64, limits); });
  const double empty = fastest_ns(300, [&] { one->forward(0, limits); });
  one->forward(64, limits);
  const double full_back = fastest_ns(300, [&] { one->backward(64, limits); });
  const double empty_back = fastest_ns(300, [&] { one->backward(0, limits); });
  out[0] = (full - empty) / (64 * kBlocks), out[1] = (full_back - empty_back) / (64 * kBlocks);
}

// Of one view: pairs of (Gaussian, tile) dealt out, looked at, blocks in their boxes, blocks hit; then milliseconds of
// the raster passes, forward and backward, and of the rest of either.
SPLAT_API void limit_scene(const SplatBatch* batch, const SplatConstants* constants, const SplatImages* results,
                           const SplatImages* cotangents, const SplatGradients* gradients, int repeats, double* out) {
  const Thresholds limits = thresholds_of(*constants);
  double fastest[4] = {1e30, 1e30, 1e30, 1e30};
  for (int r = 0; r < repeats; ++r) {
    Handle handle;
    handle.views.resize(1);
    BinnedView& view = handle.views[0];
    const double start = now_ns();
    { const Binning binning(*batch, *constants, 0, 1, handle.views.data(), batch->threads); }
    view.hits = Buffer<uint64_t>(view.tile_begin.back());
    const double binned = now_ns();
    parallel_for(view.tiles(), batch->threads,
                 [&](int64_t t) { render_tile(*batch, *results, limits, 0, view, t, true); });
    const double shown = now_ns();
    const Buffer<float> slots(view.page_slot.back() * kNumSums);
    const Layers result = layers_of(*results, *batch, 0), cotangent = layers_of(*cotangents, *batch, 0);
    parallel_for(view.tiles(), batch->threads, [&](int64_t t) {
      const auto read = [&](const Tile& tile, auto& light) { read_cotangents(tile, result, cotangent, light); };
      backward_tile<3>(view, t, limits, result, OwnValues{}, slots.data(), read);
    });
    const double back = now_ns();
    const int64_t begin[2] = {0, view.page_slot.back() * kNumSums};
    parallel_for((batch->count + kBackwardItem - 1) / kBackwardItem, batch->threads, [&](int64_t item) {
      const int64_t end = std::min(batch->count, (item + 1) * kBackwardItem);
      for (int64_t i = item * kBackwardItem; i < end; i += kLanes) {
        const int n = static_cast<int>(std::min<int64_t>(kLanes, end - i));
        const ValueGradients values{gradients->colours, 3, 3, false, true};
        gather(*batch, *constants, &view, {0, 1, slots.data(), begin}, i, n, values, *gradients, false);
      }
    });
    const double parts[4] = {shown - binned, back - shown, binned - start, now_ns() - back};
    for (int k = 0; k < 4; ++k) fastest[k] = std::min(fastest[k], parts[k]);
    if (r) continue;
    out[0] = static_cast<double>(view.tile_begin.back()), out[1] = out[2] = out[3] = 0;
    for (int64_t t = 0; t < view.tiles(); ++t) {
      for (int64_t i = view.tile_begin[t]; i < view.tile_reach[t].end; ++i) {
        out[1] += 1;
        out[2] += __builtin_popcountll(blocks_of(view.ellipses[view.order[i]], view.tile(t)));
        out[3] += __builtin_popcountll(view.hits[i]);
      }
    }
  }
  for (int k = 0; k < 4; ++k) out[4 + k] = 1e-6 * fastest[k];
}
}
