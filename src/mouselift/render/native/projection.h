// From 3D Gaussians to ellipses in the image and back: EWA splatting (Zwicker et al. 2001) as 3DGS (Kerbl et al. 2023)
// uses it, `kLanes` Gaussians at a time. `reference.py` says the same in PyTorch.
#pragma once

#include <cstdint>

#include "abi.h"
#include "simd.h"

namespace mouselift {

constexpr float kLog2E = 1.4426950408889634f;

struct Camera {
  float R[3][3], t[3];               // camera from world
  float fx, fy, skew, cx, cy;        // px
  float x_min, x_max, y_min, y_max;  // where the Jacobian's x/z and y/z are clamped
  int width, height;
};

inline Camera make_camera(const float* w2c, const float* K, int width, int height, float margin) {
  Camera c;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) c.R[i][j] = w2c[4 * i + j];
    c.t[i] = w2c[4 * i + 3];
  }
  c.fx = K[0], c.skew = K[1], c.cx = K[2], c.fy = K[4], c.cy = K[5];
  c.width = width, c.height = height;
  const float margin_x = margin * 0.5f * width / c.fx, margin_y = margin * 0.5f * height / c.fy;
  c.x_min = -c.cx / c.fx - margin_x, c.x_max = (width - c.cx) / c.fx + margin_x;
  c.y_min = -c.cy / c.fy - margin_y, c.y_max = (height - c.cy) / c.fy + margin_y;
  return c;
}

// One camera of the batch and the Gaussians that it looks at.
struct SceneView {
  int64_t count;
  const float *means, *quats, *scales, *opacities, *colours, *features, *w2c, *K, *background;
};

inline SceneView scene_view(const SplatBatch& batch, int64_t index) {  // of S * V
  const int64_t scene = index / batch.views, first = scene * batch.count;
  const int64_t first_colour = batch.colours_for_each_view ? index * batch.count : first;
  return {batch.count,
          batch.means + 3 * first,
          batch.quats + 4 * first,
          batch.scales + 3 * first,
          batch.opacities + first,
          batch.colours + 3 * first_colour,
          batch.features + batch.channels * (batch.features_for_each_view ? index * batch.count : first),
          batch.w2c + 16 * index,
          batch.K + 9 * index,
          batch.background + 3 * index};
}

// Structure of arrays: lane k holds one Gaussian. Lanes past the end hold zeros; nobody looks at what becomes of them.
struct GaussianLanes {
  Vec mean[3], quat[4], scale[3], opacity;
};

inline GaussianLanes load_gaussians(const SceneView& scene, int64_t first, int n) {
  alignas(64) float lanes[11][kLanes] = {};
  for (int k = 0; k < n; ++k) {
    const int64_t i = first + k;
    for (int j = 0; j < 3; ++j) lanes[j][k] = scene.means[3 * i + j];
    for (int j = 0; j < 4; ++j) lanes[3 + j][k] = scene.quats[4 * i + j];
    for (int j = 0; j < 3; ++j) lanes[7 + j][k] = scene.scales[3 * i + j];
    lanes[10][k] = scene.opacities[i];
  }
  GaussianLanes g;
  for (int j = 0; j < 3; ++j) g.mean[j] = load(lanes[j]), g.scale[j] = load(lanes[7 + j]);
  for (int j = 0; j < 4; ++j) g.quat[j] = load(lanes[3 + j]);
  g.opacity = load(lanes[10]);
  return g;
}

// How the Gaussians lie in the world: the same for every view.
struct Orientation {
  Vec quat[4], inverse_norm;  // unit quaternion
  Vec rotation[3][3];         // world from Gaussian

  explicit Orientation(const GaussianLanes& g) {
    const Vec* q = g.quat;
    inverse_norm = 1.0f / square_root(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
    for (int j = 0; j < 4; ++j) quat[j] = q[j] * inverse_norm;
    const Vec w = quat[0], x = quat[1], y = quat[2], z = quat[3];
    Vec(*R)[3] = rotation;
    R[0][0] = 1.0f - 2.0f * (y * y + z * z), R[0][1] = 2.0f * (x * y - w * z), R[0][2] = 2.0f * (x * z + w * y);
    R[1][0] = 2.0f * (x * y + w * z), R[1][1] = 1.0f - 2.0f * (x * x + z * z), R[1][2] = 2.0f * (y * z - w * x);
    R[2][0] = 2.0f * (x * z - w * y), R[2][1] = 2.0f * (y * z + w * x), R[2][2] = 1.0f - 2.0f * (x * x + y * y);
  }
};

// Every intermediate value that the way back needs again.
struct Projection {
  Vec x, y, z, inverse_z;             // camera coordinates
  Vec slope_x, slope_y;               // x/z and y/z
  Vec clamped_x, clamped_y;           // the same, as the Jacobian sees them
  Vec column, row;                    // px, centre in the image
  Vec along_column[3], along_row[3];  // gradients of column and row with respect to the world point
  Vec u[3], v[3];                     // the same along the Gaussian's own axes, before scaling
  Vec cov_xx, cov_xy, cov_yy;         // px^2, dilated
  Vec a, b, c;                        // its inverse [[a, b], [b, c]]
};

// The Cholesky factor of the inverse covariance: with (dx, dy) from a pixel to the centre, u = ux dx + uy dy and
// w = wy dy, the density falls as 2^(-u^2 - w^2).
struct Whitening {
  Vec ux, uy, wy;
  explicit Whitening(const Projection& p) {
    constexpr float half = 0.5f * kLog2E;
    ux = square_root(half * p.a);
    uy = -ux * p.cov_xy / p.cov_yy;
    wy = square_root(half / p.cov_yy);
  }
};

inline Vec dot(const Vec p[3], const Vec q[3]) { return p[0] * q[0] + p[1] * q[1] + p[2] * q[2]; }

inline Projection project(const GaussianLanes& g, const Orientation& o, const Camera& cam, float dilation) {
  Projection p;
  const auto to_camera = [&](int i) {
    return cam.R[i][0] * g.mean[0] + cam.R[i][1] * g.mean[1] + cam.R[i][2] * g.mean[2] + cam.t[i];
  };
  p.x = to_camera(0), p.y = to_camera(1), p.z = to_camera(2);
  p.inverse_z = 1.0f / p.z;
  p.slope_x = p.x * p.inverse_z, p.slope_y = p.y * p.inverse_z;
  p.clamped_x = minimum(maximum(p.slope_x, splat(cam.x_min)), splat(cam.x_max));
  p.clamped_y = minimum(maximum(p.slope_y, splat(cam.y_min)), splat(cam.y_max));
  p.column = cam.fx * p.slope_x + cam.skew * p.slope_y + cam.cx;
  p.row = cam.fy * p.slope_y + cam.cy;

  const Vec column_z = -(cam.fx * p.clamped_x + cam.skew * p.clamped_y), row_z = -cam.fy * p.clamped_y;
  for (int j = 0; j < 3; ++j) {
    p.along_column[j] = (cam.fx * cam.R[0][j] + cam.skew * cam.R[1][j] + column_z * cam.R[2][j]) * p.inverse_z;
    p.along_row[j] = (cam.fy * cam.R[1][j] + row_z * cam.R[2][j]) * p.inverse_z;
  }
  Vec su[3], sv[3];
  for (int k = 0; k < 3; ++k) {
    const Vec axis[3] = {o.rotation[0][k], o.rotation[1][k], o.rotation[2][k]};
    p.u[k] = dot(p.along_column, axis), p.v[k] = dot(p.along_row, axis);
    su[k] = p.u[k] * g.scale[k], sv[k] = p.v[k] * g.scale[k];
  }
  const Vec uu = dot(su, su), vv = dot(sv, sv);
  p.cov_xx = uu + dilation, p.cov_xy = dot(su, sv), p.cov_yy = vv + dilation;
  // The determinant through Lagrange's identity, (u.u)(v.v) - (u.v)^2 = |u x v|^2: a sum of positive terms, so that
  // needles keep their precision.
  const Vec cross[3] = {su[1] * sv[2] - su[2] * sv[1], su[2] * sv[0] - su[0] * sv[2], su[0] * sv[1] - su[1] * sv[0]};
  const Vec inverse_det = 1.0f / (dilation * (uu + vv + dilation) + dot(cross, cross));
  p.a = p.cov_yy * inverse_det, p.b = -p.cov_xy * inverse_det, p.c = p.cov_xx * inverse_det;
  return p;
}

// Sums over the pixels of one Gaussian, with G = alpha * dL/dalpha and (u, w) as in `Whitening`, and of each value that
// it shows.
enum Sum { kG, kGu, kGw, kGuu, kGuw, kGww, kValue, kNumSums = kValue + 4 };

struct GaussianGradients {
  Vec mean[3], quat[4], scale[3], opacity;
};

inline void quat_gradient(const Orientation& o, const Vec dR[3][3], Vec gradient[4]) {
  const Vec w = o.quat[0], x = o.quat[1], y = o.quat[2], z = o.quat[3];
  const Vec d[4] = {
      2.0f * (x * (dR[2][1] - dR[1][2]) + y * (dR[0][2] - dR[2][0]) + z * (dR[1][0] - dR[0][1])),
      2.0f * (w * (dR[2][1] - dR[1][2]) + y * (dR[0][1] + dR[1][0]) + z * (dR[0][2] + dR[2][0])) -
          4.0f * x * (dR[1][1] + dR[2][2]),
      2.0f * (w * (dR[0][2] - dR[2][0]) + x * (dR[0][1] + dR[1][0]) + z * (dR[1][2] + dR[2][1])) -
          4.0f * y * (dR[0][0] + dR[2][2]),
      2.0f * (w * (dR[1][0] - dR[0][1]) + x * (dR[0][2] + dR[2][0]) + y * (dR[1][2] + dR[2][1])) -
          4.0f * z * (dR[0][0] + dR[1][1]),
  };
  const Vec radial = d[0] * w + d[1] * x + d[2] * y + d[3] * z;  // normalisation forgets changes of length
  for (int j = 0; j < 4; ++j) gradient[j] = (d[j] - radial * o.quat[j]) * o.inverse_norm;
}

// `d_depth` is the gradient with respect to z where z itself is shown.
inline GaussianGradients project_backward(const GaussianLanes& g, const Orientation& o, const Camera& cam,
                                          const Projection& p, const Vec sums[kValue], Vec d_depth) {
  GaussianGradients out;
  out.opacity = sums[kG] / g.opacity;

  // alpha = 2^(peak - u^2 - w^2), so dL/du = -2 log(2) sum(G u).
  constexpr float scale = 2.0f / kLog2E;
  const Whitening t(p);
  const Vec d_column = -scale * t.ux * sums[kGu], d_row = -scale * (t.uy * sums[kGu] + t.wy * sums[kGw]);
  // With C the covariance, M the matrix of second moments of (dx, dy) and T that takes (dx, dy) to (u, w):
  // dL/dC = C^-1 M C^-1 / 2 and C^-1 = scale T' T.
  const Vec n_uy = t.uy * sums[kGuu] + t.wy * sums[kGuw];
  const Vec d_xx = scale * scale * t.ux * t.ux * sums[kGuu], d_xy = scale * scale * t.ux * n_uy;  // twice dL/dC
  const Vec d_yy = scale * scale * (t.uy * n_uy + t.wy * (t.uy * sums[kGuw] + t.wy * sums[kGww]));

  Vec dR[3][3], d_along_column[3] = {}, d_along_row[3] = {};
  for (int k = 0; k < 3; ++k) {
    const Vec su = p.u[k] * g.scale[k], sv = p.v[k] * g.scale[k];
    const Vec d_su = d_xx * su + d_xy * sv, d_sv = d_xy * su + d_yy * sv;
    out.scale[k] = d_su * p.u[k] + d_sv * p.v[k];
    const Vec d_u = d_su * g.scale[k], d_v = d_sv * g.scale[k];
    for (int j = 0; j < 3; ++j) {
      dR[j][k] = p.along_column[j] * d_u + p.along_row[j] * d_v;
      d_along_column[j] += o.rotation[j][k] * d_u;
      d_along_row[j] += o.rotation[j][k] * d_v;
    }
  }
  quat_gradient(o, dR, out.quat);

  // The Jacobian: along_column = (fx, skew, column_z) R / z, along_row = (0, fy, row_z) R / z.
  const auto in_camera = [&](const Vec d[3], int i) {
    return d[0] * cam.R[i][0] + d[1] * cam.R[i][1] + d[2] * cam.R[i][2];
  };
  const Vec d_column_z = in_camera(d_along_column, 2), d_row_z = in_camera(d_along_row, 2);
  Vec d_inverse_z = cam.fx * in_camera(d_along_column, 0) + cam.skew * in_camera(d_along_column, 1) -
                    (cam.fx * p.clamped_x + cam.skew * p.clamped_y) * d_column_z + cam.fy * in_camera(d_along_row, 1) -
                    cam.fy * p.clamped_y * d_row_z;
  const Vec d_clamped_x = -cam.fx * p.inverse_z * d_column_z;
  const Vec d_clamped_y = -p.inverse_z * (cam.skew * d_column_z + cam.fy * d_row_z);
  const Vec d_slope_x = (Vec)((IntVec)d_clamped_x & (IntVec)(p.slope_x == p.clamped_x)) + cam.fx * d_column;
  const Vec d_slope_y =
      (Vec)((IntVec)d_clamped_y & (IntVec)(p.slope_y == p.clamped_y)) + cam.skew * d_column + cam.fy * d_row;
  d_inverse_z += d_slope_x * p.x + d_slope_y * p.y;

  const Vec d_camera[3] = {d_slope_x * p.inverse_z, d_slope_y * p.inverse_z,
                           d_depth - d_inverse_z * p.inverse_z * p.inverse_z};
  for (int j = 0; j < 3; ++j) {
    out.mean[j] = cam.R[0][j] * d_camera[0] + cam.R[1][j] * d_camera[1] + cam.R[2][j] * d_camera[2];
  }
  return out;
}

}  // namespace mouselift
