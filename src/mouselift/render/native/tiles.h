// Compositing inside one tile of the image. A tile is a grid of blocks and a block is one vector of pixels, so a
// Gaussian of a few pixels touches few vectors. `live` says which pixels still take light.
#pragma once

#include <algorithm>
#include <cstdint>

#include "abi.h"
#include "projection.h"
#include "simd.h"

namespace mouselift {

// 8 x 8 blocks, one bit of a word for each: 32 x 32 px with AVX-512, 32 x 16 with AVX2, 16 x 16 with SSE2 or NEON.
constexpr int kColumns = 8, kRows = 8, kBlocks = 64;
constexpr int kBlockWidth = kLanes == 4 ? 2 : 4, kBlockHeight = kLanes / kBlockWidth;
constexpr int kTileWidth = kColumns * kBlockWidth, kTileHeight = kRows * kBlockHeight;

// One projected Gaussian, one cache line.
struct alignas(64) Ellipse {
  float x, y;           // px
  float qxx, qxy, qyy;  // log2(alpha) = peak + qxx dx^2 + qxy dx dy + qyy dy^2
  float peak;           // log2(opacity)
  float red, green, blue, z;
  int16_t x0, y0, x1, y1;  // px, inclusive: where alpha can reach the threshold; x1 < x0 when culled
  int64_t slot;            // its first gradient slot, counted from the start of its page
};

struct Layers {  // one view
  float *image, *alpha, *depth;
  int width, height;
  int64_t plane() const { return int64_t{1} * width * height; }
};

struct Tile {
  int x, y;         // px, of its first pixel
  int column, row;  // in the grid of tiles
};

// The blocks of a tile that the box of `e` touches.
inline uint64_t blocks_of(const Ellipse& e, const Tile& tile) {
  constexpr uint64_t every_row = 0x0101010101010101;  // the first column
  const int c0 = std::max(0, e.x0 - tile.x) / kBlockWidth, c1 = std::min(kTileWidth - 1, e.x1 - tile.x) / kBlockWidth;
  const int r0 = std::max(0, e.y0 - tile.y) / kBlockHeight;
  const int r1 = std::min(kTileHeight - 1, e.y1 - tile.y) / kBlockHeight;
  const uint64_t columns = every_row * ((2u << c1) - (1u << c0));
  return columns & (~uint64_t{0} << (8 * r0)) & (~uint64_t{0} >> (8 * (7 - r1)));
}

// Pixel centres of block 0, relative to the tile.
inline Vec lane_x() {
  Vec v;
  for (int k = 0; k < kLanes; ++k) v[k] = k % kBlockWidth + 0.5f;
  return v;
}
inline Vec lane_y() {
  Vec v;
  for (int k = 0; k < kLanes; ++k) v[k] = k / kBlockWidth + 0.5f;
  return v;
}

// The part of a block that lies inside the image.
inline Mask inside(const Tile& tile, int block, int width, int height) {
  alignas(64) float flags[kLanes];
  for (int k = 0; k < kLanes; ++k) {
    const int x = tile.x + block % kColumns * kBlockWidth + k % kBlockWidth;
    const int y = tile.y + block / kColumns * kBlockHeight + k / kBlockWidth;
    flags[k] = x < width && y < height ? 1.0f : 0.0f;
  }
  return at_least(load(flags), splat(0.5f));
}

// Calls row(lanes of the row, offset of its pixels in a plane, their number) for what of a block lies inside the image.
template <class Row>
inline void for_rows(const Tile& tile, int block, int width, int height, Row row) {
  const int x = tile.x + block % kColumns * kBlockWidth, y = tile.y + block / kColumns * kBlockHeight;
  const int columns = std::min(kBlockWidth, width - x), rows = std::min(kBlockHeight, height - y);
  for (int r = 0; r < rows && columns > 0; ++r) row(r * kBlockWidth, int64_t{y + r} * width + x, columns);
}

inline Vec read_block(const float* plane, const Tile& tile, int block, int width, int height) {
  alignas(64) float lanes[kLanes] = {};  // 0 outside the image, and where there is no plane
  if (!plane) return load(lanes);
  for_rows(tile, block, width, height, [&](int lane, int64_t pixel, int count) {
    if (count == kBlockWidth) {  // a constant size: one move
      std::memcpy(lanes + lane, plane + pixel, sizeof(float) * kBlockWidth);
    } else {
      std::copy_n(plane + pixel, count, lanes + lane);
    }
  });
  return load(lanes);
}

inline void write_block(float* plane, const Tile& tile, int block, int width, int height, Vec value) {
  alignas(64) float lanes[kLanes];
  store(lanes, value);
  for_rows(tile, block, width, height, [&](int lane, int64_t pixel, int count) {
    if (count == kBlockWidth) {
      std::memcpy(plane + pixel, lanes + lane, sizeof(float) * kBlockWidth);
    } else {
      std::copy_n(lanes + lane, count, plane + pixel);
    }
  });
}

// One Gaussian, spread over the lanes.
struct Spread {
  Vec x, y, qxx, qxy, qyy, peak, red, green, blue, z;
  Spread(const Ellipse& e, const Tile& tile)
      : x(splat(e.x - tile.x)),
        y(splat(e.y - tile.y)),
        qxx(splat(e.qxx)),
        qxy(splat(e.qxy)),
        qyy(splat(e.qyy)),
        peak(splat(e.peak)),
        red(splat(e.red)),
        green(splat(e.green)),
        blue(splat(e.blue)),
        z(splat(e.z)) {}
  Vec log2_alpha(Vec dx, Vec dy) const { return dx * (qxx * dx + qxy * dy) + (qyy * dy * dy + peak); }
};

struct Thresholds {
  Vec max_alpha, min_log2_alpha, min_transmittance;
};

struct BlockGrid {
  Vec x[kColumns], y[kRows];  // pixel centres, relative to the tile
  BlockGrid() {
    for (int c = 0; c < kColumns; ++c) x[c] = lane_x() + static_cast<float>(c * kBlockWidth);
    for (int r = 0; r < kRows; ++r) y[r] = lane_y() + static_cast<float>(r * kBlockHeight);
  }
};

// The light that is left in the pixels of one tile.
struct TileLight {
  Vec T[kBlocks];      // transmittance
  Mask live[kBlocks];  // pixels that still take Gaussians
  uint64_t alive = 0;  // blocks that have one

  TileLight(const Tile& tile, int width, int height) {
    for (int b = 0; b < kBlocks; ++b) {
      T[b] = splat(1.0f);
      live[b] = inside(tile, b, width, height);
      alive |= uint64_t{any(live[b])} << b;
    }
  }

  // Takes what `alpha` absorbs in a block and returns it. Pixels in which that would leave too little end before it:
  // their alpha becomes 0.
  Vec absorb(int b, Vec& alpha, const Thresholds& limits) {
    Vec weight = T[b] * alpha, remaining = T[b] - weight;
    const Mask full = less(remaining, limits.min_transmittance);
    if (any(full)) {
      alpha = select(full, Vec{}, alpha);
      weight = select(full, Vec{}, weight);
      remaining = select(full, T[b], remaining);
      live[b] = but_not(live[b], full);
      if (!any(live[b])) alive &= ~(uint64_t{1} << b);
    }
    T[b] = remaining;
    return weight;
  }
};

// Returns the end of what it looked at: once every pixel is full, the rest of the list is left alone.
inline const uint32_t* composite_tile(const Ellipse* ellipses, const uint32_t* begin, const uint32_t* end,
                                      const Tile& tile, const Thresholds& limits, const float* background,
                                      const Layers& out) {
  const BlockGrid grid;
  Vec red[kBlocks] = {}, green[kBlocks] = {}, blue[kBlocks] = {}, depth[kBlocks] = {};
  TileLight light(tile, out.width, out.height);
  const uint64_t in_image = light.alive;

  const uint32_t* it = begin;
  for (; it < end && light.alive; ++it) {
    __builtin_prefetch(&ellipses[it[it + 8 < end ? 8 : 0]]);
    const Ellipse& e = ellipses[*it];
    uint64_t todo = light.alive & blocks_of(e, tile);
    if (!todo) continue;
    const Spread g(e, tile);
    for (; todo; todo &= todo - 1) {
      const int b = __builtin_ctzll(todo);
      const Vec log2_alpha = g.log2_alpha(g.x - grid.x[b % kColumns], g.y - grid.y[b / kColumns]);
      const Mask hit = at_least(light.live[b], log2_alpha, limits.min_log2_alpha);
      if (!any(hit)) continue;
      Vec alpha = where(hit, minimum(exp2(log2_alpha), limits.max_alpha));
      const Vec weight = light.absorb(b, alpha, limits);
      red[b] += weight * g.red;
      green[b] += weight * g.green;
      blue[b] += weight * g.blue;
      depth[b] += weight * g.z;
    }
  }

  for (uint64_t todo = in_image; todo; todo &= todo - 1) {
    const int b = __builtin_ctzll(todo);
    const auto write = [&](float* plane, Vec value) { write_block(plane, tile, b, out.width, out.height, value); };
    write(out.image, red[b] + light.T[b] * background[0]);
    write(out.image + out.plane(), green[b] + light.T[b] * background[1]);
    write(out.image + 2 * out.plane(), blue[b] + light.T[b] * background[2]);
    const Vec alpha = 1.0f - light.T[b];
    write(out.alpha, alpha);
    write(out.depth, where(less(Vec{}, alpha), depth[b] / alpha));
  }
  return it;
}

// Cotangents of the pixels of one tile, and what is still behind: see `composite_tile_backward`.
template <bool kWithDepth>
struct TileCotangents {
  Vec red[kBlocks], green[kBlocks], blue[kBlocks], depth[kWithDepth ? kBlocks : 1], rest[kBlocks];

  TileCotangents(const Tile& tile, const Layers& result, const Layers& cotangent) {
    for (int b = 0; b < kBlocks; ++b) {
      const auto read = [&](const float* plane) { return read_block(plane, tile, b, result.width, result.height); };
      const int64_t plane = result.plane(), d_plane = cotangent.image ? plane : 0;
      red[b] = read(cotangent.image);
      green[b] = read(cotangent.image + d_plane);
      blue[b] = read(cotangent.image + 2 * d_plane);
      const Vec alpha = read(result.alpha);
      Vec d_alpha = read(cotangent.alpha);
      rest[b] = red[b] * read(result.image) + green[b] * read(result.image + plane) +
                blue[b] * read(result.image + 2 * plane);
      if constexpr (kWithDepth) {  // depth = sum(weight z) / alpha
        const Vec d_mean = read(cotangent.depth), mean = read(result.depth);
        depth[b] = where(less(Vec{}, alpha), d_mean / alpha);
        d_alpha -= depth[b] * mean;
        rest[b] += d_mean * mean;
      }
      rest[b] -= (1.0f - alpha) * d_alpha;
    }
  }
};

// Walks the tile front to back once more. With C_i the cotangent of what Gaussian i shows (colour and depth), and
// rest_i what the Gaussians behind it and the background contribute, dL/dalpha_i = T_i C_i - rest_i / (1 - alpha_i).
// `rest` starts as the whole pixel, which the forward pass left in `result`.
//
// `slot_of(i, e)` is where the sums of Gaussian i in this tile belong; every slot from `begin` to `end` is written.
template <bool kWithDepth, class SlotOf>
void composite_tile_backward(const Ellipse* ellipses, const uint32_t* begin, const uint32_t* end, const Tile& tile,
                             const Thresholds& limits, const Layers& result, const Layers& cotangent, SlotOf slot_of) {
  const BlockGrid grid;
  TileCotangents<kWithDepth> d(tile, result, cotangent);
  TileLight light(tile, result.width, result.height);
  for (const uint32_t* it = begin; it < end; ++it) {
    __builtin_prefetch(&ellipses[it[it + 8 < end ? 8 : 0]]);
    const Ellipse& e = ellipses[*it];
    float* slot = slot_of(*it, e);
    uint64_t todo = light.alive & blocks_of(e, tile);
    if (!todo) {
      std::fill_n(slot, kNumSums, 0.0f);
      continue;
    }
    const Spread g(e, tile);
    Vec sums[kNumSums] = {};
    for (; todo; todo &= todo - 1) {
      const int b = __builtin_ctzll(todo);
      const Vec dx = g.x - grid.x[b % kColumns], dy = g.y - grid.y[b / kColumns];
      const Vec log2_alpha = g.log2_alpha(dx, dy);
      const Mask hit = at_least(light.live[b], log2_alpha, limits.min_log2_alpha);
      if (!any(hit)) continue;
      const Vec uncapped = exp2(log2_alpha), before = light.T[b];
      Vec alpha = where(hit, minimum(uncapped, limits.max_alpha));
      const Vec weight = light.absorb(b, alpha, limits);
      Vec shown = d.red[b] * g.red + d.green[b] * g.green + d.blue[b] * g.blue;
      if constexpr (kWithDepth) shown += d.depth[b] * g.z;
      d.rest[b] -= weight * shown;
      const Vec d_alpha = before * shown - d.rest[b] * reciprocal(1.0f - alpha);
      const Vec G = where(at_least(limits.max_alpha, uncapped), alpha * d_alpha);
      const Vec Gx = G * dx, Gy = G * dy;
      sums[kG] += G;
      sums[kGx] += Gx;
      sums[kGy] += Gy;
      sums[kGxx] += Gx * dx;
      sums[kGxy] += Gx * dy;
      sums[kGyy] += Gy * dy;
      sums[kRed] += weight * d.red[b];
      sums[kGreen] += weight * d.green[b];
      sums[kBlue] += weight * d.blue[b];
      if constexpr (kWithDepth) sums[kDepth] += weight * d.depth[b];
    }
    sum_lanes<kWithDepth ? kNumSums : kDepth>(sums, slot);
    if constexpr (!kWithDepth) slot[kDepth] = 0;
  }
}

}  // namespace mouselift
