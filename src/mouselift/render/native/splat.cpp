// Differentiable Gaussian splatting on the CPU, behind the C interface of `abi.h`. Compiled once for each instruction
// set; nothing here is shared between calls, so any number of threads may call it at once.
#include <algorithm>
#include <new>
#include <vector>

#include "abi.h"
#include "binning.h"

namespace mouselift {
namespace {

constexpr int64_t kGaussiansAtOnce = 1 << 20;       // forward: bounds the scratch of many views
constexpr int64_t kViewsPerThread = 4;              // from so many on, a view is one item of work
constexpr int64_t kSlotBytes = int64_t{256} << 20;  // backward: views share a pass while their slots fit
constexpr int64_t kBackwardItem = 512;              // Gaussians whose gradients are gathered as one item of work

struct Handle {
  std::vector<BinnedView> views;
};

Layers layers_of(const SplatImages& images, const SplatBatch& batch, int64_t view) {
  const int64_t plane = int64_t{1} * batch.width * batch.height;
  const auto at = [&](float* p, int64_t step) { return p ? p + view * step : nullptr; };
  return {at(images.image, 3 * plane), at(images.alpha, plane), at(images.depth, plane), batch.width, batch.height};
}

Thresholds thresholds_of(const SplatConstants& constants) {
  return {splat(constants.max_alpha), splat(log2_threshold(constants)), splat(constants.min_transmittance)};
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
    const int64_t v = item / tiles, t = item % tiles;
    BinnedView& view = views[v];
    const Layers out = layers_of(results, batch, first + v);
    TileLight<ShownBlock> light(view.tile(t), out.width, out.height);
    const uint32_t *begin = view.order.data() + view.tile_begin[t], *end = view.order.data() + view.tile_begin[t + 1];
    uint64_t* hits = keep ? view.hits.data() + view.tile_begin[t] : nullptr;
    view.finish_tile(t, composite(view.ellipses.data(), begin, end, view.tile(t), limits, OwnValues{}, hits, light));
    write_layers(light, view.tile(t), scene_view(batch, first + v).background, out);
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
  if (total >= kViewsPerThread * batch.threads) {
    parallel_for(total, batch.threads, [&](int64_t view) { run(view, 1, 1); });
    return;
  }
  const int64_t group = std::max<int64_t>(1, kGaussiansAtOnce / std::max<int64_t>(1, batch.count));
  for (int64_t first = 0; first < total; first += group) run(first, std::min(group, total - first), batch.threads);
}

void backward_tile(const BinnedView& view, int64_t t, const Thresholds& limits, const Layers& result,
                   const Layers& cotangent, float* slots) {
  const Tile tile = view.tile(t);
  const auto slot_of = [&](uint32_t gaussian, const Ellipse& e) {
    const TileBox box(e);
    const int64_t place = int64_t{tile.row - box.y0} * box.width() + (tile.column - box.x0);
    return slots + (view.page_slot[gaussian / kPage] + e.slot + place) * kNumSums;
  };
  const uint32_t *begin = view.order.data() + view.tile_begin[t], *end = view.order.data() + view.tile_reach[t].end;
  const auto composite = [&](auto& light) {
    read_cotangents(tile, result, cotangent, light);
    const uint64_t* hits = view.hits.data() + view.tile_begin[t];
    composite_backward(view.ellipses.data(), begin, end, tile, limits, OwnValues{}, hits, light, slot_of);
  };
  if (cotangent.depth) {
    TileLight<CotangentBlock<4>> light(tile, result.width, result.height);
    composite(light);
  } else {
    TileLight<CotangentBlock<3>> light(tile, result.width, result.height);
    composite(light);
  }
}

// Adds the gradients of one view to `kLanes` Gaussians.
void gather(const SceneView& scene, const SplatConstants& constants, const BinnedView& view, int64_t first, int n,
            const float* slots, const SplatGradients& gradients) {
  alignas(64) float lanes[kNumSums][kLanes] = {};
  bool touched = false;
  for (int k = 0; k < n; ++k) {
    const Ellipse& e = view.ellipses[first + k];
    if (e.x1 < e.x0) continue;
    const float* slot = slots + view.slot(first + k) * kNumSums;
    const TileBox box(e);
    for (int y = box.y0; y <= box.y1; ++y) {
      for (int x = box.x0; x <= box.x1; ++x, slot += kNumSums) {
        if (!view.reached(int64_t{y} * view.tile_columns + x, first + k, e.z())) continue;
        touched = true;
        for (int j = 0; j < kNumSums; ++j) lanes[j][k] += slot[j];
      }
    }
  }
  if (!touched) return;
  Vec sums[kNumSums];
  for (int j = 0; j < kNumSums; ++j) sums[j] = load(lanes[j]);
  const GaussianLanes g = load_gaussians(scene, first, n);
  const Projection p = project(g, view.camera, constants.dilation_px2);
  const GaussianGradients d = project_backward(g, view.camera, p, sums);
  for (int k = 0; k < n; ++k) {
    const int64_t i = first + k;
    if (view.ellipses[i].x1 < view.ellipses[i].x0) continue;
    for (int j = 0; j < 3; ++j) {
      gradients.means[3 * i + j] += d.mean[j][k];
      gradients.scales[3 * i + j] += d.scale[j][k];
      gradients.colours[3 * i + j] += d.colour[j][k];
    }
    for (int j = 0; j < 4; ++j) gradients.quats[4 * i + j] += d.quat[j][k];
    gradients.opacities[i] += d.opacity[k];
  }
}

// The part of the gradients that belongs to one view.
SplatGradients gradients_of(const SplatGradients& all, const SplatBatch& batch, int64_t view) {
  const int64_t first = view / batch.views * batch.count;
  const int64_t first_colour = batch.colours_for_each_view ? view * batch.count : first;
  return {all.means + 3 * first, all.quats + 4 * first, all.scales + 3 * first, all.opacities + first,
          all.colours + 3 * first_colour};
}

// Views `first` to `last`, whose slots begin at `slot_begin`.
void backward_views(const Handle& handle, const SplatBatch& batch, const SplatConstants& constants,
                    const SplatImages& results, const SplatImages& cotangents, const SplatGradients& gradients,
                    int64_t first, int64_t last, const std::vector<int64_t>& slot_begin) {
  const std::vector<BinnedView>& views = handle.views;
  const Thresholds limits = thresholds_of(constants);
  const Buffer<float> slots(slot_begin.back());
  const int64_t tiles = views[first].tiles();
  parallel_for((last - first) * tiles, batch.threads, [&](int64_t item) {
    const int64_t v = first + item / tiles;
    backward_tile(views[v], item % tiles, limits, layers_of(results, batch, v), layers_of(cotangents, batch, v),
                  slots.data() + slot_begin[v - first]);
  });
  const int64_t items = (batch.count + kBackwardItem - 1) / kBackwardItem;
  const int64_t first_scene = first / batch.views, last_scene = (last - 1) / batch.views;
  parallel_for((last_scene - first_scene + 1) * items, batch.threads, [&](int64_t item) {
    const int64_t scene = first_scene + item / items, begin = item % items * kBackwardItem;
    const int64_t end = std::min(batch.count, begin + kBackwardItem);
    const int64_t from = std::max(first, scene * batch.views), to = std::min(last, (scene + 1) * batch.views);
    for (int64_t v = from; v < to; ++v) {  // always in this order: sums do not depend on the threads
      for (int64_t i = begin; i < end; i += kLanes) {
        gather(scene_view(batch, v), constants, views[v], i, static_cast<int>(std::min<int64_t>(kLanes, end - i)),
               slots.data() + slot_begin[v - first], gradients_of(gradients, batch, v));
      }
    }
  });
}

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
    backward_views(handle, batch, constants, results, cotangents, gradients, first, last, slot_begin);
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
