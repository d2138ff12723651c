// From sums over pixels to gradients of Gaussians: adds up the slots of every tile and view, always in the same order,
// so that the result does not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "binning.h"

namespace mouselift {

// Where the gradients of what a pass shows belong: of colours, or of up to four features.
struct ValueGradients {
  float* first;    // of the first Gaussian of the batch
  int64_t stride;  // floats between Gaussians
  int count;
  bool for_each_view;  // or one set for all views of a scene
  bool with_depth;     // the fourth value is z
};

// A range of views of one scene and the slots that the raster pass filled for them.
struct SlotRange {
  int64_t from, to;      // of S * V
  const float* slots;    // of all views of the pass
  const int64_t* begin;  // where those of view `from` begin, and so on
};

// Adds up the slots of `n` Gaussians in one view. Returns the lanes that some tile got to, one bit each.
inline uint32_t sum_slots(const BinnedView& view, const float* slots, int64_t first, int n, Vec sums[kNumSums]) {
  alignas(64) float lanes[kNumSums][kLanes] = {};
  uint32_t touched = 0;
  for (int k = 0; k < n; ++k) {
    const Ellipse& e = view.ellipses[first + k];
    if (e.x1 < e.x0) continue;
    const float* slot = slots + view.slot(first + k) * kNumSums;
    const TileBox box(e);
    float of_one[kNumSums] = {};
    for (int y = box.y0; y <= box.y1; ++y) {
      for (int x = box.x0; x <= box.x1; ++x, slot += kNumSums) {
        if (!view.reached(int64_t{y} * view.tile_columns + x, first + k, e.z())) continue;
        touched |= 1u << k;
        for (int j = 0; j < kNumSums; ++j) of_one[j] += slot[j];
      }
    }
    for (int j = 0; j < kNumSums; ++j) lanes[j][k] = of_one[j];
  }
  for (int j = 0; j < kNumSums; ++j) sums[j] = load(lanes[j]);
  return touched;
}

// Writes or adds `count` vectors to rows of `count` floats, one row for each lane.
inline void write_rows(float* rows, int64_t stride, const Vec* vectors, int count, int n, bool add) {
  alignas(64) float lanes[4][kLanes];
  for (int j = 0; j < count; ++j) store(lanes[j], vectors[j]);
  for (int k = 0; k < n; ++k) {
    for (int j = 0; j < count; ++j) rows[k * stride + j] = add ? rows[k * stride + j] + lanes[j][k] : lanes[j][k];
  }
}

// Gradients of `n` Gaussians from `range`. Those of the geometry are added to what is there if `add` says so or views
// of the scene came before; those of values if views came before that share them.
inline void gather(const SplatBatch& batch, const SplatConstants& constants, const BinnedView* views,
                   const SlotRange& range, int64_t first, int n, const ValueGradients& values,
                   const SplatGradients& gradients, bool add) {
  const GaussianLanes g = load_gaussians(scene_view(batch, range.from), first, n);
  const Orientation o(g);
  const int64_t scene = range.from / batch.views;
  const bool continued = range.from > scene * batch.views;
  Vec total[11] = {}, shown[kValues] = {};
  const auto write_values = [&](int64_t set, bool add_values) {
    float* rows = values.first + (set * batch.count + first) * values.stride;
    write_rows(rows, values.stride, shown, values.count, n, add_values);
  };
  for (int64_t v = range.from; v < range.to; ++v) {
    Vec sums[kNumSums];
    const uint32_t touched = sum_slots(views[v], range.slots + range.begin[v - range.from], first, n, sums);
    if (touched) {
      alignas(64) float flags[kLanes];
      for (int k = 0; k < kLanes; ++k) flags[k] = touched >> k & 1;
      const Mask drawn = at_least(load(flags), splat(0.5f));  // the others may hold NaN
      const Projection p = project(g, o, views[v].camera, constants.dilation_px2);
      const GaussianGradients d =
          project_backward(g, o, views[v].camera, p, sums, values.with_depth ? sums[kValue + 3] : Vec{});
      for (int j = 0; j < 3; ++j) total[j] += where(drawn, d.mean[j]), total[3 + j] += where(drawn, d.scale[j]);
      for (int j = 0; j < 4; ++j) total[6 + j] += where(drawn, d.quat[j]);
      total[10] += where(drawn, d.opacity);
    }
    for (int j = 0; j < kValues; ++j) shown[j] += sums[kValue + j];
    if (values.for_each_view) {
      write_values(v, false);
      std::fill_n(shown, kValues, Vec{});
    }
  }
  const int64_t i = scene * batch.count + first;
  if (!values.for_each_view) write_values(scene, continued);
  add |= continued;
  write_rows(gradients.means + 3 * i, 3, total, 3, n, add);
  write_rows(gradients.scales + 3 * i, 3, total + 3, 3, n, add);
  write_rows(gradients.quats + 4 * i, 4, total + 6, 4, n, add);
  write_rows(gradients.opacities + i, 1, total + 10, 1, n, add);
}

}  // namespace mouselift
