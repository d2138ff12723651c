// One vector of floats, as wide as the instruction set that this file is compiled for allows.
//
// The kernel is written once against these few names and compiled once for each instruction set: 16 lanes (AVX-512),
// 8 lanes (AVX2 with FMA) or 4 lanes (SSE2, NEON, or whatever the compiler makes of a 16-byte vector). Arithmetic uses
// the operators of GCC's vector extension; only what they do not cover is spelled out for each instruction set.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace mouselift {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef int32_t IntVec __attribute__((vector_size(4 * kLanes)));
typedef float Four __attribute__((vector_size(16)));

inline Vec splat(float value) { return value - Vec{}; }

inline Vec load(const float* from) {
  Vec v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline void store(float* to, Vec v) { std::memcpy(to, &v, sizeof v); }

#if defined(__AVX512F__)

using Mask = __mmask16;

inline bool any(Mask m) { return m != 0; }
inline Mask both(Mask a, Mask b) { return a & b; }
inline Mask less(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
inline Mask at_least(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
inline Mask at_least(Mask where, Vec a, Vec b) { return _mm512_mask_cmp_ps_mask(where, a, b, _CMP_GE_OQ); }
inline Vec where(Mask m, Vec a) { return _mm512_maskz_mov_ps(m, a); }  // 0 elsewhere
inline uint32_t bits(Mask m) { return m; }

inline Vec minimum(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline Vec maximum(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec square_root(Vec a) { return _mm512_sqrt_ps(a); }
inline Vec rough_reciprocal(Vec a) { return _mm512_rcp14_ps(a); }

#else

using Mask = IntVec;

inline Mask both(Mask a, Mask b) { return a & b; }
inline Mask less(Vec a, Vec b) { return a < b; }
inline Mask at_least(Vec a, Vec b) { return a >= b; }
inline Mask at_least(Mask where, Vec a, Vec b) { return (a >= b) & where; }
inline Vec where(Mask m, Vec a) { return (Vec)((IntVec)a & m); }  // 0 elsewhere

#if defined(__AVX2__)
inline uint32_t bits(Mask m) { return static_cast<uint32_t>(_mm256_movemask_ps((__m256)m)); }
inline Vec minimum(Vec a, Vec b) { return _mm256_min_ps(a, b); }
inline Vec maximum(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec square_root(Vec a) { return _mm256_sqrt_ps(a); }
inline Vec rough_reciprocal(Vec a) { return _mm256_rcp_ps(a); }
#elif defined(__SSE2__)
inline uint32_t bits(Mask m) { return static_cast<uint32_t>(_mm_movemask_ps((__m128)m)); }
inline Vec minimum(Vec a, Vec b) { return _mm_min_ps(a, b); }
inline Vec maximum(Vec a, Vec b) { return _mm_max_ps(a, b); }
inline Vec square_root(Vec a) { return _mm_sqrt_ps(a); }
inline Vec rough_reciprocal(Vec a) { return _mm_rcp_ps(a); }
#elif defined(__aarch64__)
inline uint32_t bits(Mask m) {
  const uint32x4_t place = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32((uint32x4_t)m, place));
}
inline Vec minimum(Vec a, Vec b) { return vminq_f32(a, b); }
inline Vec maximum(Vec a, Vec b) { return vmaxq_f32(a, b); }
inline Vec square_root(Vec a) { return vsqrtq_f32(a); }
inline Vec rough_reciprocal(Vec a) {
  const Vec estimate = vrecpeq_f32(a);  // 8 bits; one step more than the others need
  return estimate * vrecpsq_f32(a, estimate);
}
#else
inline uint32_t bits(Mask m) {
  uint32_t result = 0;
  for (int k = 0; k < kLanes; ++k) result |= (m[k] & 1u) << k;
  return result;
}
inline Vec select(Mask m, Vec a, Vec b) { return (Vec)(((IntVec)a & m) | ((IntVec)b & ~m)); }
inline Vec minimum(Vec a, Vec b) { return select(a < b, a, b); }
inline Vec maximum(Vec a, Vec b) { return select(a > b, a, b); }
inline Vec square_root(Vec a) {
  for (int k = 0; k < kLanes; ++k) a[k] = __builtin_sqrtf(a[k]);
  return a;
}
inline Vec rough_reciprocal(Vec a) { return 1.0f / a; }
#endif

inline bool any(Mask m) { return bits(m) != 0; }

#endif

// 1/a to about one unit in the last place but one: the estimate of the processor and one Newton step.
inline Vec reciprocal(Vec a) {
  const Vec estimate = rough_reciprocal(a);
  return estimate * (2.0f - a * estimate);
}

// 2^x for x in -126 .. 127, nonsense elsewhere (which the caller masks out): a minimax polynomial on [-1/2, 1/2]
// (relative error 7.5e-8), then an exact scaling. Adding 1.5 * 2^23 rounds to a whole number, which the last bits hold.
inline Vec exp2(Vec x) {
  const Vec shifted = x + 12582912.0f;
  const Vec f = x - (shifted - 12582912.0f);
  const Vec f2 = f * f;  // in pairs, which makes fewer steps wait for each other
  const Vec high = 1.327647012e-3f * f + 9.675541319e-3f, middle = 5.550713279e-2f * f + 2.402211972e-1f;
  const Vec p = (high * f2 + middle) * f2 + (6.931469671e-1f * f + 1.0f);
  return (Vec)((IntVec)p + ((IntVec)shifted << 23));
}

// log2(x) for normal positive x: the mantissa in [sqrt(1/2), sqrt(2)], then the series of artanh (error below 1e-7).
inline Vec log2(Vec x) {
  const IntVec exponent = ((IntVec)x - 0x3f3504f3) >> 23;  // 0x3f3504f3 is sqrt(1/2)
  const Vec m = (Vec)((IntVec)x - (exponent << 23));
  const Vec s = (m - 1.0f) / (m + 1.0f);
  const Vec s2 = s * s;
  const Vec series = ((0.41219858311113f * s2 + 0.57707801635559f) * s2 + 0.96179669392597f) * s2 + 2.88539008177793f;
  return __builtin_convertvector(exponent, Vec) + s * series;
}

// The four sums over the lanes of four vectors, side by side.
inline Four sums_of_four(const Vec* v) {
#if defined(__AVX2__)
  const auto eight_lanes = [](Vec a) {
#if defined(__AVX512F__)
    return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
#else
    return a;
#endif
  };
  const __m256 pairs[2] = {_mm256_hadd_ps(eight_lanes(v[0]), eight_lanes(v[1])),
                           _mm256_hadd_ps(eight_lanes(v[2]), eight_lanes(v[3]))};
  const __m256 quarters = _mm256_hadd_ps(pairs[0], pairs[1]);
  return _mm_add_ps(_mm256_castps256_ps128(quarters), _mm256_extractf128_ps(quarters, 1));
#elif defined(__SSE2__)
  __m128 a = v[0], b = v[1], c = v[2], d = v[3];
  _MM_TRANSPOSE4_PS(a, b, c, d);
  return (a + b) + (c + d);
#elif defined(__aarch64__)
  return vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3]));
#else
  Four sums = {};
  for (int i = 0; i < 4; ++i) {
    for (int k = 0; k < kLanes; ++k) sums[i] += v[i][k];
  }
  return sums;
#endif
}

// A block of pixels is a vector: 4 x 4, 4 x 2 or 2 x 2, rows one after another.
constexpr int kBlockWidth = kLanes == 4 ? 2 : 4, kBlockHeight = kLanes / kBlockWidth;

// Reads the rows of a block, `stride` floats apart.
inline Vec load_rows(const float* from, int64_t stride) {
#if defined(__AVX2__)
  const auto two_rows = [stride](const float* p) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + stride), 1);
  };
#if defined(__AVX512F__)
  return _mm512_insertf32x8(_mm512_castps256_ps512(two_rows(from)), two_rows(from + 2 * stride), 1);
#else
  return two_rows(from);
#endif
#else
  return Vec{from[0], from[1], from[stride], from[stride + 1]};
#endif
}

inline void store_rows(float* to, int64_t stride, Vec v) {
  for (int row = 0; row < kBlockHeight; ++row) {
#if defined(__AVX512F__)
    const __m128 lanes[4] = {_mm512_castps512_ps128(v), _mm512_extractf32x4_ps(v, 1), _mm512_extractf32x4_ps(v, 2),
                             _mm512_extractf32x4_ps(v, 3)};
    _mm_storeu_ps(to + row * stride, lanes[row]);
#elif defined(__AVX2__)
    const __m128 lanes[2] = {_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)};
    _mm_storeu_ps(to + row * stride, lanes[row]);
#else
    to[row * stride] = v[2 * row], to[row * stride + 1] = v[2 * row + 1];
#endif
  }
}

// Sums over the lanes of `n` vectors.
template <int n>
inline void sum_lanes(const Vec* vectors, float* sums) {
  constexpr int whole = n / 4 * 4;
  for (int i = 0; i < whole; i += 4) {
    const Four four = sums_of_four(vectors + i);
    std::memcpy(sums + i, &four, sizeof four);
  }
  if constexpr (whole < n) {
    Vec rest[4] = {};
    for (int i = whole; i < n; ++i) rest[i - whole] = vectors[i];
    const Four four = sums_of_four(rest);
    std::memcpy(sums + whole, &four, sizeof(float) * (n - whole));
  }
}

}  // namespace mouselift
