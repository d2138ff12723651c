// What crosses the border to Python: plain C structs, mirrored field by field in `cpu.py`. No ownership moves, except
// for the handle that `splat_forward` makes and `splat_free` ends.
#pragma once

#include <cstdint>

#define SPLAT_API __attribute__((visibility("default")))

extern "C" {

// S scenes of N Gaussians, each seen by V cameras. Float arrays are contiguous, row-major.
struct SplatBatch {
  int64_t scenes, count, views;
  int64_t channels;  // of the features, 0 without
  int32_t width, height;
  int32_t threads;                // at most so many
  int32_t colours_for_each_view;  // or one set for all cameras of a scene
  int32_t features_for_each_view;
  const float* means;             // (S, N, 3)
  const float* quats;             // (S, N, 4), w x y z, any length but 0
  const float* scales;            // (S, N, 3)
  const float* opacities;         // (S, N)
  const float* colours;           // (S, V or 1, N, 3)
  const float* features;          // (S, V or 1, N, C)
  const float* w2c;               // (S, V, 4, 4)
  const float* K;                 // (S, V, 3, 3), skew kept
  const float* background;        // (S, V, 3)
};

// `constants.py`, where each has its source.
struct SplatConstants {
  float near_plane, dilation_px2, jacobian_margin, max_alpha, min_alpha, min_transmittance;
};

// Results, or cotangents of results (then any may be null: zero).
struct SplatImages {
  float* image;     // (S, V, 3, H, W), over the background
  float* alpha;     // (S, V, H, W)
  float* depth;     // (S, V, H, W), expected z, 0 where alpha is 0
  float* features;  // (S, V, C, H, W), over nothing
};

// The shapes are those of the inputs; every value is written, unless there are no views.
struct SplatGradients {
  float *means, *quats, *scales, *opacities, *colours, *features;
};

// Non-zero return values: 1, out of memory.
SPLAT_API int splat_forward(const SplatBatch* batch, const SplatConstants* constants, const SplatImages* results,
                            void** handle);
SPLAT_API int splat_backward(const void* handle, const SplatBatch* batch, const SplatConstants* constants,
                             const SplatImages* results, const SplatImages* cotangents,
                             const SplatGradients* gradients);
SPLAT_API void splat_free(void* handle);

// The widest build that this processor can run: 0 baseline, 1 AVX2 with FMA, 2 AVX-512 (F, BW, DQ, VL).
SPLAT_API int splat_supported_isa(void);
}
