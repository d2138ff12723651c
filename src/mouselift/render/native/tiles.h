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
constexpr int kTileWidth = kColumns * kBlockWidth, kTileHeight = kRows * kBlockHeight;
constexpr int kValues = 4;  // composited at once: red, green, blue and depth, or four features

// One projected Gaussian, one cache line. With (dx, dy) from a pixel to the centre, u = ux dx + uy dy and w = wy dy:
// log2(alpha) = peak - u^2 - w^2.
struct alignas(64) Ellipse {
  float x, y;  // px
  float ux, uy, wy;
  float peak;               // log2(opacity)
  float values[kValues];    // red, green, blue, z
  int16_t x0, y0, x1, y1;   // px, inclusive: where alpha can reach the threshold; x1 < x0 when culled
  int64_t slot;             // its first gradient slot, counted from the start of its page
  float z() const { return values[3]; }
};

struct Layers {  // one view
  float *image, *alpha, *depth, *features;
  int channels, width, height;
  int64_t plane() const { return int64_t{1} * width * height; }
};

struct Tile {
  int x, y;         // px, of its first pixel
  int column, row;  // in the grid of tiles
};

// The blocks of a tile that the box of `e` touches.
inline uint64_t blocks_of(const Ellipse& e, const Tile& tile) {
  constexpr uint64_t every_row = 0x0101010101010101;  // the first column
  const unsigned c0 = std::max(0, e.x0 - tile.x), c1 = std::min(kTileWidth - 1, e.x1 - tile.x);
  const unsigned r0 = std::max(0, e.y0 - tile.y), r1 = std::min(kTileHeight - 1, e.y1 - tile.y);
  const uint64_t columns = every_row * ((2u << c1 / kBlockWidth) - (1u << c0 / kBlockWidth));
  return columns & (~uint64_t{0} << (8 * (r0 / kBlockHeight))) & (~uint64_t{0} >> (8 * (7 - r1 / kBlockHeight)));
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

// Where a block lies in the planes of an image that may end within it.
struct Place {
  int width, columns, rows;  // of the image; of the block's part inside of it, at most 0 outside
  int64_t pixel;             // the first
  Place(const Tile& tile, int block, int image_width, int image_height) : width(image_width) {
    const int x = tile.x + block % kColumns * kBlockWidth, y = tile.y + block / kColumns * kBlockHeight;
    columns = std::min(kBlockWidth, image_width - x), rows = std::min(kBlockHeight, image_height - y);
    pixel = int64_t{y} * image_width + x;
  }
  bool whole() const { return columns == kBlockWidth && rows == kBlockHeight; }
  bool empty() const { return columns <= 0 || rows <= 0; }
  // Calls pixel(lane, offset in a plane) for the pixels inside the image.
  template <class Pixel>
  void for_each(Pixel body) const {
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < columns; ++c) body(r * kBlockWidth + c, pixel + int64_t{r} * width + c);
    }
  }
  Vec read(const float* plane) const {
    if (whole()) return load_rows(plane + pixel, width);
    alignas(64) float lanes[kLanes] = {};  // 0 outside the image
    for_each([&](int lane, int64_t at) { lanes[lane] = plane[at]; });
    return load(lanes);
  }
  void write(float* plane, Vec value) const {
    if (whole()) return store_rows(plane + pixel, width, value);
    alignas(64) float lanes[kLanes];
    store(lanes, value);
    for_each([&](int lane, int64_t at) { plane[at] = lanes[lane]; });
  }
  Mask inside() const {
    if (whole()) return at_least(Vec{}, Vec{});
    alignas(64) float flags[kLanes] = {};
    for_each([&](int lane, int64_t) { flags[lane] = 1.0f; });
    return at_least(load(flags), splat(0.5f));
  }
};

// One Gaussian, spread over the lanes. u and w of a pixel are made of a part that belongs to its block's column, one of
// the block's row, and one of the lane, the same in every block.
struct Spread {
  alignas(16) float column_u[kColumns], row_u[kRows], row_w[kRows];
  Vec lane_u, lane_w, peak, values[kValues];

  Spread(const Ellipse& e, const Tile& tile, const float* shown) {
    for (int i = 0; i < kColumns; i += 4) {
      const Four index = {i + 0.0f, i + 1.0f, i + 2.0f, i + 3.0f};
      const Four dx = e.x - tile.x - kBlockWidth * index, dy = e.y - tile.y - kBlockHeight * index;
      const Four parts[3] = {e.ux * dx, e.uy * dy, e.wy * dy};
      std::memcpy(column_u + i, &parts[0], sizeof(Four));
      std::memcpy(row_u + i, &parts[1], sizeof(Four));
      std::memcpy(row_w + i, &parts[2], sizeof(Four));
    }
    lane_u = e.ux * lane_x() + e.uy * lane_y();
    lane_w = e.wy * lane_y();
    peak = splat(e.peak);
    for (int k = 0; k < kValues; ++k) values[k] = splat(shown[k]);
  }
  Vec u(int block) const { return column_u[block % kColumns] - lane_u + row_u[block / kColumns]; }
  Vec w(int block) const { return row_w[block / kColumns] - lane_w; }
  Vec log2_alpha(Vec u, Vec w) const { return peak - u * u - w * w; }
};

// What a pass shows: the colour and depth of the Gaussians themselves, or up to four of their features.
struct OwnValues {
  const float* of(const Ellipse& e, uint32_t) const { return e.values; }
};
struct FeatureValues {
  const float* first;  // of Gaussian 0
  int64_t stride;
  int count;  // at most kValues
  float padded[kValues] = {};
  const float* of(const Ellipse&, uint32_t gaussian) {
    std::copy_n(first + gaussian * stride, count, padded);
    return padded;
  }
};

struct Thresholds {
  Vec max_alpha, min_log2_alpha, min_transmittance;
};

// The light that is left in the pixels of one tile. What belongs to a block lies side by side and starts with T, its
// transmittance.
template <class Block>
struct TileLight {
  Block blocks[kBlocks];
  Mask live[kBlocks];  // pixels that still take Gaussians
  uint64_t alive = 0;  // blocks that have one

  TileLight(const Tile& tile, int width, int height) {
    for (int b = 0; b < kBlocks; ++b) {
      blocks[b] = Block{};
      blocks[b].T = splat(1.0f);
      live[b] = Place(tile, b, width, height).inside();
      alive |= uint64_t{any(live[b])} << b;
    }
  }

  // Takes what `alpha` absorbs in a block as `weight`. Pixels in which that would leave too little end before it: the
  // others are returned. Without branches, because when a pixel ends cannot be foreseen.
  Mask absorb(int b, Vec alpha, const Thresholds& limits, Vec& weight) {
    const Vec before = blocks[b].T, taken = before * alpha;
    const Mask fits = at_least(before - taken, limits.min_transmittance);
    weight = where(fits, taken);
    blocks[b].T = before - weight;
    live[b] = both(live[b], fits);
    return fits;
  }
};

struct ShownBlock {
  Vec T, sums[kValues];  // of weight times value
};

// Composites a list of Gaussians. Returns the end of what it looked at: once every pixel is full, the rest is left
// alone.
// `hits` notes for each Gaussian in which blocks it was seen; it may be null.
template <class Source>
const uint32_t* composite(const Ellipse* ellipses, const uint32_t* begin, const uint32_t* end, const Tile& tile,
                          const Thresholds& limits, Source source, uint64_t* hits, TileLight<ShownBlock>& light) {
  const uint32_t* it = begin;
  for (; it < end && light.alive; ++it) {
    __builtin_prefetch(&ellipses[it[it + 8 < end ? 8 : 0]]);
    const Ellipse& e = ellipses[*it];
    uint64_t todo = light.alive & blocks_of(e, tile), seen = 0;
    if (todo) {
      const Spread g(e, tile, source.of(e, *it));
      for (; todo; todo &= todo - 1) {
        const int b = __builtin_ctzll(todo);
        const Vec log2_alpha = g.log2_alpha(g.u(b), g.w(b));
        // Whether any lane is hit is not asked: the answer would be guessed wrongly too often to save time.
        const Mask hit = both(light.live[b], at_least(log2_alpha, limits.min_log2_alpha));
        const Vec alpha = where(hit, minimum(exp2(log2_alpha), limits.max_alpha));
        Vec weight;
        light.absorb(b, alpha, limits, weight);
        ShownBlock& block = light.blocks[b];
        for (int k = 0; k < kValues; ++k) block.sums[k] += weight * g.values[k];
        seen |= uint64_t{any(hit)} << b;
        if (__builtin_expect(!any(light.live[b]), 0)) light.alive &= ~(uint64_t{1} << b);
      }
    }
    if (hits) hits[it - begin] = seen;
  }
  return it;
}

// Calls body(block, its place) for the blocks that are at least partly inside the image.
template <class Body>
inline void for_each_block(const Tile& tile, const Layers& layers, Body body) {
  for (int b = 0; b < kBlocks; ++b) {
    const Place place(tile, b, layers.width, layers.height);
    if (!place.empty()) body(b, place);
  }
}

// One plane after another: side by side, the planes of an image whose size is a power of two drive each other out of
// the cache.
inline void write_layers(const TileLight<ShownBlock>& light, const Tile& tile, const float* background,
                         const Layers& out) {
  for (int k = 0; k < 3; ++k) {
    float* plane = out.image + k * out.plane();
    for_each_block(tile, out, [&](int b, const Place& place) {
      place.write(plane, light.blocks[b].sums[k] + light.blocks[b].T * background[k]);
    });
  }
  for_each_block(tile, out, [&](int b, const Place& place) { place.write(out.alpha, 1.0f - light.blocks[b].T); });
  for_each_block(tile, out, [&](int b, const Place& place) {
    const Vec alpha = 1.0f - light.blocks[b].T;
    place.write(out.depth, where(less(Vec{}, alpha), light.blocks[b].sums[3] / alpha));
  });
}

// The features from `channel` on.
inline void write_features(const TileLight<ShownBlock>& light, const Tile& tile, int channel, const Layers& out) {
  for (int k = 0; k < kValues && channel + k < out.channels; ++k) {
    float* plane = out.features + (channel + k) * out.plane();
    for_each_block(tile, out, [&](int b, const Place& place) { place.write(plane, light.blocks[b].sums[k]); });
  }
}

// A block on the way back: cotangents of its pixels, and what is still behind, see `composite_backward`.
template <int kCount>
struct CotangentBlock {
  Vec T, rest, d[kCount];
};

// Reads cotangents into d[k] and adds to `rest` what the results contribute.
template <int kCount>
void read_plane(const Place& place, int k, const float* cotangent, const float* result, CotangentBlock<kCount>& block) {
  block.d[k] = place.read(cotangent);
  block.rest += block.d[k] * place.read(result);
}

// kCount is 3, or 4 when the depth has a cotangent.
template <int kCount>
void read_cotangents(const Tile& tile, const Layers& result, const Layers& cotangent,
                     TileLight<CotangentBlock<kCount>>& light) {
  const int64_t plane = result.plane();
  for_each_block(tile, result, [&](int b, const Place& place) {
    CotangentBlock<kCount>& block = light.blocks[b];
    for (int k = 0; k < 3 && cotangent.image; ++k) {
      read_plane(place, k, cotangent.image + k * plane, result.image + k * plane, block);
    }
    const Vec alpha = place.read(result.alpha);
    Vec d_alpha = cotangent.alpha ? place.read(cotangent.alpha) : Vec{};
    if constexpr (kCount == 4) {  // depth = sum(weight z) / alpha
      const Vec d_mean = place.read(cotangent.depth), mean = place.read(result.depth);
      block.d[3] = where(less(Vec{}, alpha), d_mean / alpha);
      d_alpha -= block.d[3] * mean;
      block.rest += d_mean * mean;
    }
    block.rest -= (1.0f - alpha) * d_alpha;
  });
}

// Features are blended over nothing, so that what alpha leaves contributes nothing.
inline void read_feature_cotangents(const Tile& tile, int channel, const Layers& result, const Layers& cotangent,
                                    TileLight<CotangentBlock<kValues>>& light) {
  const int count = std::min(kValues, result.channels - channel);
  for_each_block(tile, result, [&](int b, const Place& place) {
    for (int k = 0; k < count; ++k) {
      const int64_t plane = (channel + k) * result.plane();
      read_plane(place, k, cotangent.features + plane, result.features + plane, light.blocks[b]);
    }
  });
}

// Walks a list front to back once more. With C_i the cotangent of what Gaussian i shows and rest_i what the Gaussians
// behind it and the background contribute, dL/dalpha_i = T_i C_i - rest_i / (1 - alpha_i). `rest` starts as the whole
// pixel, which the forward pass left in the result.
//
// `hits` is what the forward pass noted. `slot_of(i, e)` is where the sums of Gaussian i in this tile belong; every
// slot from `begin` to `end` is written.
template <int kCount, class Source, class SlotOf>
void composite_backward(const Ellipse* ellipses, const uint32_t* begin, const uint32_t* end, const Tile& tile,
                        const Thresholds& limits, Source source, const uint64_t* hits,
                        TileLight<CotangentBlock<kCount>>& light, SlotOf slot_of) {
  for (const uint32_t* it = begin; it < end; ++it) {
    __builtin_prefetch(&ellipses[it[it + 8 < end ? 8 : 0]]);
    const Ellipse& e = ellipses[*it];
    float* slot = slot_of(*it, e);
    uint64_t todo = hits[it - begin];
    if (!todo) {
      std::fill_n(slot, kNumSums, 0.0f);
      continue;
    }
    const Spread g(e, tile, source.of(e, *it));
    Vec sums[kValue + kCount] = {};
    for (; todo; todo &= todo - 1) {
      const int b = __builtin_ctzll(todo);
      CotangentBlock<kCount>& block = light.blocks[b];
      const Vec u = g.u(b), w = g.w(b), log2_alpha = g.log2_alpha(u, w);
      const Mask hit = both(light.live[b], at_least(log2_alpha, limits.min_log2_alpha));
      const Vec uncapped = exp2(log2_alpha), before = block.T;
      const Vec alpha = where(hit, minimum(uncapped, limits.max_alpha));
      Vec weight;
      const Mask fits = light.absorb(b, alpha, limits, weight);
      Vec shown = block.d[0] * g.values[0];
      for (int k = 1; k < kCount; ++k) shown += block.d[k] * g.values[k];
      const Vec rest = block.rest - weight * shown;
      block.rest = rest;
      const Vec d_alpha = before * shown - rest * reciprocal(1.0f - alpha);
      const Vec G = where(both(fits, at_least(limits.max_alpha, uncapped)), alpha * d_alpha);
      const Vec Gu = G * u, Gw = G * w;
      sums[kG] += G;
      sums[kGu] += Gu;
      sums[kGw] += Gw;
      sums[kGuu] += Gu * u;
      sums[kGuw] += Gu * w;
      sums[kGww] += Gw * w;
      for (int k = 0; k < kCount; ++k) sums[kValue + k] += weight * block.d[k];
    }
    sum_lanes<kValue + kCount>(sums, slot);
    if constexpr (kValue + kCount < kNumSums) slot[kNumSums - 1] = 0;
  }
}

}  // namespace mouselift
