// What crosses the border to Python: plain C structs, mirrored field by field in `cpu.py`. No ownership moves, except
// for the handle that `splat_forward` makes and `splat_free` ends.
#pragma once

#include <cstdint>

#define SPLAT_API __attribute__((visibility("default")))

extern "C" {

// One scene and the cameras that look at it. Float arrays are contiguous, row-major.
struct SplatScene {
  int64_t count;               // N Gaussians
  int32_t views, width, height;
  int32_t threads;             // at most so many
  const float* means;          // (N, 3)
  const float* quats;          // (N, 4), w x y z, any length but 0
  const float* scales;         // (N, 3)
  const float* opacities;      // (N)
  const float* colours;        // (N, 3) for each view
  int64_t colour_view_stride;  // floats between the colours of two views; 0 when all views share them
  const float* w2c;            // (V, 4, 4)
  const float* K;              // (V, 3, 3), skew kept
  const float* background;     // (V, 3)
};

// `constants.py`, where each has its source.
struct SplatConstants {
  float near_plane, dilation_px2, jacobian_margin, max_alpha, min_alpha, min_transmittance;
};

// Results, or cotangents of results (then any may be null: zero).
struct SplatImages {
  float* image;  // (V, 3, H, W), over the background
  float* alpha;  // (V, H, W)
  float* depth;  // (V, H, W), sum of weight times z
};

// Gradients are added to what is there. Colours have the layout that `SplatScene` gives them.
struct SplatGradients {
  float *means, *quats, *scales, *opacities, *colours;
};

// Non-zero return values: 1, out of memory.
SPLAT_API int splat_forward(const SplatScene* scene, const SplatConstants* constants, const SplatImages* results, void** handle);
SPLAT_API int splat_backward(const void* handle, const SplatScene* scene, const SplatConstants* constants,
                             const SplatImages* results, const SplatImages* cotangents, const SplatGradients* gradients);
SPLAT_API void splat_free(void* handle);

// The widest build that this processor can run: 0 baseline, 1 AVX2 with FMA, 2 AVX-512 (F, BW, DQ, VL).
SPLAT_API int splat_supported_isa(void);
}
