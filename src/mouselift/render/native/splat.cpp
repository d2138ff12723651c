// Differentiable Gaussian splatting on the CPU, behind the C interface of `abi.h`. Compiled once for each instruction
// set; nothing here is shared between calls, so any number of threads may call it at once.
#include <algorithm>
#include <new>
#include <vector>

#include "abi.h"
#include "binning.h"
#include "gather.h"

namespace mouselift {
namespace {

constexpr int64_t kGaussiansAtOnce = 1 << 20;       // forward: bounds the scratch of many views
constexpr int64_t kViewsAtOnce = 4;                 // of one scene: as one item of work, they share the loading
constexpr int64_t kItemsPerThread = 2;              // from so many on, threads work on items of their own
constexpr int64_t kSlotBytes = int64_t{256} << 20;  // backward: views share a pass while their slots fit
constexpr int64_t kBackwardItem = 512;              // Gaussians whose gradients are gathered as one item of work

struct Handle {
  std::vector<BinnedView> views;
};

Layers layers_of(const SplatImages& images, const SplatBatch& batch, int64_t view) {
  const int64_t plane = int64_t{1} * batch.width * batch.height;
  const auto at = [&](float* p, int64_t planes) { return p ? p + view * planes * plane : nullptr; };
  return {at(images.image, 3),      at(images.alpha, 1), at(images.depth, 1), at(images.features, batch.channels),
          static_cast<int>(batch.channels), batch.width, batch.height};
}

Thresholds thresholds_of(const SplatConstants& constants) {
  return {splat(constants.max_alpha), splat(log2_threshold(constants)), splat(constants.min_transmittance)};
}

FeatureValues features_of(const SplatBatch& batch, int64_t view, int64_t channel) {
  const int count = static_cast<int>(std::min<int64_t>(kValues, batch.channels - channel));
  return {scene_view(batch, view).features + channel, batch.channels, count};
}

// One tile of one view: colour, alpha and depth, then the features, four at a time.
void render_tile(const SplatBatch& batch, const SplatImages& results, const Thresholds& limits, int64_t index,
                 BinnedView& view, int64_t t, bool keep) {
  const Layers out = layers_of(results, batch, index);
  const Tile tile = view.tile(t);
  const Ellipse* ellipses = view.ellipses.data();
  const uint32_t *begin = view.order.data() + view.tile_begin[t], *end = view.order.data() + view.tile_begin[t + 1];
  uint64_t* hits = keep ? view.hits.data() + view.tile_begin[t] : nullptr;
  {
    TileLight<ShownBlock> light(tile, out.width, out.height);
    end = composite(ellipses, begin, end, tile, limits, OwnValues{}, hits, light);
    write_layers(light, tile, scene_view(batch, index).background, out);
  }
  view.finish_tile(t, end);
  for (int channel = 0; channel < out.channels; channel += kValues) {
    TileLight<ShownBlock> light(tile, out.width, out.height);
    composite(ellipses, begin, end, tile, limits, features_of(batch, index, channel), nullptr, light);
    write_features(light, tile, channel, out);
  }
}

// Renders `count` views, sharing the work of each stage among the threads.
void forward_views(const SplatBatch& batch, const SplatConstants& constants, const SplatImages& results, int64_t first,
                   int64_t count, BinnedView* views, int threads, bool keep) {
  {
    const Binning binning(batch, constants, first, count, views, threads);
  }  // its scratch ends here
  const Thresholds limits = thresholds_of(constants);
  const int64_t tiles = views[0].tiles();
  if (keep) {
    for (int64_t v = 0; v < count; ++v) views[v].hits = Buffer<uint64_t>(views[v].tile_begin.back());
  }
  parallel_for(count * tiles, threads, [&](int64_t item) {
    const int64_t v = item / tiles;
    render_tile(batch, results, limits, first + v, views[v], item % tiles, keep);
  });
}

void forward(const SplatBatch& batch, const SplatConstants& constants, const SplatImages& results, Handle& handle,
             bool keep) {
  const int64_t total = batch.scenes * batch.views;
  handle.views.resize(total);
  const auto run = [&](int64_t first, int64_t count, int threads) {
    BinnedView* views = handle.views.data() + first;
    forward_views(batch, constants, results, first, count, views, threads, keep);
    if (!keep) std::for_each(views, views + count, [](BinnedView& view) { view = BinnedView{}; });
  };
  const int64_t per_scene = (batch.views + kViewsAtOnce - 1) / kViewsAtOnce, items = batch.scenes * per_scene;
  if (items >= kItemsPerThread * batch.threads) {
    parallel_for(items, batch.threads, [&](int64_t item) {
      const int64_t from = item % per_scene * kViewsAtOnce, to = std::min(batch.views, from + kViewsAtOnce);
      run(item / per_scene * batch.views + from, to - from, 1);
    });
    return;
  }
  const int64_t group = std::max<int64_t>(1, kGaussiansAtOnce / std::max<int64_t>(1, batch.count));
  for (int64_t first = 0; first < total; first += group) run(first, std::min(group, total - first), batch.threads);
}

// The way back through one tile: fills its slots. `read` fills a tile with cotangents.
template <int kCount, class Source, class Read>
void backward_tile(const BinnedView& view, int64_t t, const Thresholds& limits, const Layers& result, Source source,
                   float* slots, Read read) {
  const Tile tile = view.tile(t);
  const auto slot_of = [&](uint32_t gaussian, const Ellipse& e) {
    const TileBox box(e);
    const int64_t place = int64_t{tile.row - box.y0} * box.width() + (tile.column - box.x0);
    return slots + (view.page_slot[gaussian / kPage] + e.slot + place) * kNumSums;
  };
  const uint32_t *begin = view.order.data() + view.tile_begin[t], *end = view.order.data() + view.tile_reach[t].end;
  const uint64_t* hits = view.hits.data() + view.tile_begin[t];
  TileLight<CotangentBlock<kCount>> light(tile, result.width, result.height);
  read(tile, light);
  composite_backward(view.ellipses.data(), begin, end, tile, limits, source, hits, light, slot_of);
}

// Views `first` to `last`, whose slots begin at `slot_begin`.
class BackwardPass {
 public:
  BackwardPass(const Handle& handle, const SplatBatch& batch, const SplatConstants& constants,
               const SplatImages& results, const SplatImages& cotangents, const SplatGradients& gradients,
               int64_t first, int64_t last, const std::vector<int64_t>& slot_begin)
      : views_(handle.views.data()),
        batch_(batch),
        constants_(constants),
        results_(results),
        cotangents_(cotangents),
        gradients_(gradients),
        first_(first),
        last_(last),
        slot_begin_(slot_begin),
        slots_(slot_begin.back()) {
    run_layers();
    if (!cotangents.features) return;
    for (int64_t channel = 0; channel < batch.channels; channel += kValues) run_features(channel);
  }

 private:
  void run_layers() {
    for_each_tile([&](int64_t v, int64_t t, const Layers& result, const Layers& cotangent, float* slots) {
      const Thresholds limits = thresholds_of(constants_);
      const auto read = [&](const Tile& tile, auto& light) { read_cotangents(tile, result, cotangent, light); };
      if (cotangent.depth) {
        backward_tile<4>(views_[v], t, limits, result, OwnValues{}, slots, read);
      } else {
        backward_tile<3>(views_[v], t, limits, result, OwnValues{}, slots, read);
      }
    });
    gather_all({gradients_.colours, 3, 3, batch_.colours_for_each_view != 0, true}, false);
  }

  void run_features(int64_t channel) {
    for_each_tile([&](int64_t v, int64_t t, const Layers& result, const Layers& cotangent, float* slots) {
      const auto read = [&](const Tile& tile, auto& light) {
        read_feature_cotangents(tile, static_cast<int>(channel), result, cotangent, light);
      };
      const FeatureValues source = features_of(batch_, v, channel);
      backward_tile<4>(views_[v], t, thresholds_of(constants_), result, source, slots, read);
    });
    const int count = static_cast<int>(std::min<int64_t>(kValues, batch_.channels - channel));
    const bool for_each_view = batch_.features_for_each_view != 0;
    gather_all({gradients_.features + channel, batch_.channels, count, for_each_view, false}, true);
  }

  template <class Body>
  void for_each_tile(Body body) {
    const int64_t tiles = views_[first_].tiles();
    parallel_for((last_ - first_) * tiles, batch_.threads, [&](int64_t item) {
      const int64_t v = first_ + item / tiles;
      body(v, item % tiles, layers_of(results_, batch_, v), layers_of(cotangents_, batch_, v),
           slots_.data() + slot_begin_[v - first_]);
    });
  }

  void gather_all(const ValueGradients& values, bool add) {
    const int64_t items = (batch_.count + kBackwardItem - 1) / kBackwardItem;
    const int64_t first_scene = first_ / batch_.views, last_scene = (last_ - 1) / batch_.views;
    parallel_for((last_scene - first_scene + 1) * items, batch_.threads, [&](int64_t item) {
      const int64_t scene = first_scene + item / items, begin = item % items * kBackwardItem;
      const int64_t from = std::max(first_, scene * batch_.views), to = std::min(last_, (scene + 1) * batch_.views);
      const SlotRange range{from, to, slots_.data(), slot_begin_.data() + (from - first_)};
      for (int64_t i = begin; i < std::min(batch_.count, begin + kBackwardItem); i += kLanes) {
        const int n = static_cast<int>(std::min<int64_t>(kLanes, batch_.count - i));
        gather(batch_, constants_, views_, range, i, n, values, gradients_, add);
      }
    });
  }

  const BinnedView* views_;
  const SplatBatch& batch_;
  const SplatConstants& constants_;
  const SplatImages &results_, &cotangents_;
  const SplatGradients& gradients_;
  int64_t first_, last_;
  const std::vector<int64_t>& slot_begin_;
  Buffer<float> slots_;
};

void backward(const Handle& handle, const SplatBatch& batch, const SplatConstants& constants,
              const SplatImages& results, const SplatImages& cotangents, const SplatGradients& gradients) {
  const int64_t total = batch.scenes * batch.views;
  for (int64_t first = 0, last; first < total; first = last) {
    std::vector<int64_t> slot_begin(1, 0);
    for (last = first; last < total; ++last) {
      const int64_t end = slot_begin.back() + handle.views[last].page_slot.back() * kNumSums;
      if (last > first && end * static_cast<int64_t>(sizeof(float)) > kSlotBytes) break;
      slot_begin.push_back(end);
    }
    BackwardPass(handle, batch, constants, results, cotangents, gradients, first, last, slot_begin);
  }
}

}  // namespace
}  // namespace mouselift

extern "C" {

int splat_forward(const SplatBatch* batch, const SplatConstants* constants, const SplatImages* results, void** handle) {
  try {
    auto state = std::make_unique<mouselift::Handle>();
    mouselift::forward(*batch, *constants, *results, *state, handle != nullptr);
    if (handle) *handle = state.release();
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}

int splat_backward(const void* handle, const SplatBatch* batch, const SplatConstants* constants,
                   const SplatImages* results, const SplatImages* cotangents, const SplatGradients* gradients) {
  try {
    const auto& state = *static_cast<const mouselift::Handle*>(handle);
    mouselift::backward(state, *batch, *constants, *results, *cotangents, *gradients);
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}

void splat_free(void* handle) { delete static_cast<mouselift::Handle*>(handle); }

int splat_supported_isa(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma")) {
    return 2;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
  return 0;
}
}
