// ---- Gaussians: sorted on the processor, drawn by WebGL 2 (EWA splatting, as docs/rendering.md says)

const TEXTURE_WIDTH = 2048;
const NEAR = 0.01;  // of the model's radius

const SPLAT_VERTEX = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D meansAndColours;  // mean (3 float32), RGBA (4 x 8 bits)
uniform usampler2D covariances;      // xx xy, xz yy, yz zz (6 float16)
uniform usampler2D harmonics;        // 1 byte a coefficient; as many texels of 16 as the degree
uniform int degree;
uniform float harmonicUnit;
uniform float covarianceUnit;
uniform float pointSize;
uniform float near;
uniform mat3 rotation;               // camera from scene
uniform vec3 eye;
uniform mat2 intrinsics;             // pixels
uniform vec2 principal;              // pixels from the middle of the viewport
uniform vec2 viewport;               // pixels
in vec2 corner;
in uint id;
out vec2 offset;                     // in standard deviations
out vec4 colour;

ivec2 place(int index) { return ivec2(index % ${TEXTURE_WIDTH}, index / ${TEXTURE_WIDTH}); }

vec3 seenFrom(vec3 d) {
  float h[48];
  for (int t = 0; t < degree; t++) {
    uvec4 words = texelFetch(harmonics, place(int(id) * degree + t), 0);
    for (int b = 0; b < 16; b++) h[16 * t + b] = float(int(words[b / 4] << (24 - 8 * (b % 4))) >> 24);
  }
  #define H(k) vec3(h[3 * k], h[3 * k + 1], h[3 * k + 2])
  float x = d.x, y = d.y, z = d.z;
  vec3 sum = 0.28209479 * H(0) + 0.48860251 * (-y * H(1) + z * H(2) - x * H(3));
  if (degree > 1) sum += 1.09254843 * (x * y * H(4) - y * z * H(5) - x * z * H(7))
    + 0.31539157 * (2.0 * z * z - x * x - y * y) * H(6) + 0.54627421 * (x * x - y * y) * H(8);
  if (degree > 2) sum += -0.59004359 * (y * (3.0 * x * x - y * y) * H(9) + x * (x * x - 3.0 * y * y) * H(15))
    + 2.89061144 * x * y * z * H(10) + 1.44530572 * z * (x * x - y * y) * H(14)
    - 0.45704579 * (4.0 * z * z - x * x - y * y) * (y * H(11) + x * H(13))
    + 0.37317633 * z * (2.0 * z * z - 3.0 * x * x - 3.0 * y * y) * H(12);
  return sum * harmonicUnit;
}

void main() {
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0);  // outside, unless the end is reached
  uvec4 packed0 = texelFetch(meansAndColours, place(int(id)), 0);
  vec3 fromEye = uintBitsToFloat(packed0.xyz) - eye;
  vec3 centre = rotation * fromEye;
  if (centre.z < near) return;

  uvec3 packed1 = texelFetch(covariances, place(int(id)), 0).xyz;
  vec2 a = unpackHalf2x16(packed1.x), b = unpackHalf2x16(packed1.y), c = unpackHalf2x16(packed1.z);
  mat3 covariance = mat3(a.x, a.y, b.x, a.y, b.y, c.x, b.x, c.x, c.y) * (covarianceUnit * pointSize * pointSize);

  // Projection of the Gaussian, linearised at its centre, widened by 0.3 px^2 against aliasing.
  vec2 limit = 1.3 * 0.5 * viewport / vec2(intrinsics[0][0], intrinsics[1][1]);
  vec2 slope = clamp(centre.xy / centre.z, -limit, limit);
  mat3x2 toPixels = intrinsics * mat3x2(1.0, 0.0, 0.0, 1.0, -slope) * rotation;
  mat2 flat2 = toPixels * covariance * transpose(toPixels) / (centre.z * centre.z);
  float xx = flat2[0][0] + 0.3, xy = flat2[0][1], yy = flat2[1][1] + 0.3;

  float middle = 0.5 * (xx + yy);
  float spread = length(vec2(0.5 * (xx - yy), xy));
  float major = middle + spread, minor = max(middle - spread, 0.0);
  vec2 axis = spread < 1e-6 ? vec2(1.0, 0.0) : normalize(xx > yy ? vec2(xx - yy + 2.0 * spread, 2.0 * xy)
                                                                 : vec2(2.0 * xy, yy - xx + 2.0 * spread));

  colour = vec4((uvec4(packed0.w) >> uvec4(0, 8, 16, 24)) & 255u) / 255.0;
  if (colour.a < 1.0 / 255.0) return;
  if (degree > 0) colour.rgb = max(colour.rgb + seenFrom(normalize(fromEye)), 0.0);
  offset = corner * sqrt(2.0 * log(255.0 * colour.a) + 1e-3);  // beyond it, less than 1/255 is left
  vec2 shift = axis * (offset.x * sqrt(major)) + vec2(-axis.y, axis.x) * (offset.y * sqrt(minor));
  vec2 pixel = intrinsics * centre.xy / centre.z + principal + shift;  // from the middle, y down
  gl_Position = vec4(2.0 * pixel.x / viewport.x, -2.0 * pixel.y / viewport.y, 0.0, 1.0);
}`;

const SPLAT_FRAGMENT = `#version 300 es
precision highp float;
in vec2 offset;
in vec4 colour;
out vec4 fragment;

void main() {
  float alpha = min(0.99, colour.a * exp(-0.5 * dot(offset, offset)));
  if (alpha < 1.0 / 255.0) discard;
  fragment = vec4(colour.rgb * alpha, alpha);
}`;

function buildProgram(gl, vertex, fragment) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  const places = new Map();
  const uniform = (name) => {
    if (!places.has(name)) places.set(name, gl.getUniformLocation(program, name));
    return places.get(name);
  };
  return { program, uniform };
}

// The lens that a picture is drawn through, for either program.
function setLens(gl, uniform, lens) {
  gl.uniformMatrix3fv(uniform("rotation"), true, lens.rotation);
  gl.uniform3fv(uniform("eye"), lens.eye);
  gl.uniformMatrix2fv(uniform("intrinsics"), false, [lens.fx, 0, lens.skew, lens.fy]);
  gl.uniform2fv(uniform("principal"), lens.principal);
  gl.uniform2f(uniform("viewport"), lens.width, lens.height);
  gl.uniform1f(uniform("near"), lens.near);
}

// Bytes of one frame of one model; its text leaves the page.
function takeBlock(model, frame) {
  const element = document.getElementById(`m${model}f${frame}`), text = atob(element.textContent);
  element.remove();
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes.buffer;
}

class Splats {
  constructor(gl, shared, index) {
    Object.assign(this, { gl, shared, index, model: scene.models[index], frame: -1, loaded: [] });
    const largest = Math.max(...this.model.frames.map((frame) => frame.count));
    this.textures = [gl.createTexture(), gl.createTexture(), gl.createTexture()];
    this.order = new Uint32Array(largest);
    this.keys = new Uint16Array(largest);
    this.depths = new Float32Array(largest);
    this.array = gl.createVertexArray();
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, shared.corners);
    const corner = gl.getAttribLocation(shared.program, "corner"), id = gl.getAttribLocation(shared.program, "id");
    gl.enableVertexAttribArray(corner);
    gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
    this.ids = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, this.ids);
    gl.bufferData(gl.ARRAY_BUFFER, this.order, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(id);
    gl.vertexAttribIPointer(id, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(id, 1);
    gl.bindVertexArray(null);
  }

  get count() { return this.model.frames[this.frame].count; }

  show(frame) {
    const shown = Math.min(frame, this.model.frames.length - 1);
    if (shown === this.frame) return;
    this.frame = shown;
    this.loaded[shown] ??= takeBlock(this.index, shown);
    const words = new Uint32Array(this.loaded[shown]), count = this.count, degree = this.model.degree;
    this.means = new Float32Array(this.loaded[shown], 0, 4 * count);
    this.sortedAlong = null;
    this.upload(0, words.subarray(0, 4 * count), 4, count);
    this.upload(1, words.subarray(4 * count, 7 * count), 3, count);
    this.upload(2, words.subarray(7 * count), 4, count * degree);
  }

  upload(unit, words, channels, texels) {
    const gl = this.gl, height = Math.max(1, Math.ceil(texels / TEXTURE_WIDTH));
    const padded = new Uint32Array(TEXTURE_WIDTH * height * channels);
    padded.set(words);
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, this.textures[unit]);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    const [inner, outer] = channels === 4 ? [gl.RGBA32UI, gl.RGBA_INTEGER] : [gl.RGB32UI, gl.RGB_INTEGER];
    gl.texImage2D(gl.TEXTURE_2D, 0, inner, TEXTURE_WIDTH, height, 0, outer, gl.UNSIGNED_INT, padded);
  }

  // From the farthest to the nearest along a direction: a counting sort over 16 bits of depth.
  sort(forward) {
    const { means, depths, keys, order, count } = this;
    let near = Infinity, far = -Infinity;
    for (let i = 0; i < count; i++) {
      const depth = forward[0] * means[4 * i] + forward[1] * means[4 * i + 1] + forward[2] * means[4 * i + 2];
      depths[i] = depth;
      if (depth < near) near = depth;
      if (depth > far) far = depth;
    }
    const starts = new Uint32Array(65537);
    const scale = far > near ? 65535 / (far - near) : 0;
    for (let i = 0; i < count; i++) {
      keys[i] = (far - depths[i]) * scale;
      starts[keys[i] + 1]++;
    }
    for (let k = 0; k < 65536; k++) starts[k + 1] += starts[k];
    for (let i = 0; i < count; i++) order[starts[keys[i]]++] = i;
  }

  draw(lens, pointSize) {
    const { gl, model } = this, { uniform } = this.shared, forward = lens.rotation.slice(6);
    gl.useProgram(this.shared.program);
    gl.bindVertexArray(this.array);
    if (this.sortedAlong === null || forward.some((value, k) => value !== this.sortedAlong[k])) {
      this.sort(forward);
      this.sortedAlong = forward;
      gl.bindBuffer(gl.ARRAY_BUFFER, this.ids);
      gl.bufferSubData(gl.ARRAY_BUFFER, 0, this.order, 0, this.count);
    }
    ["meansAndColours", "covariances", "harmonics"].forEach((name, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, this.textures[unit]);
      gl.uniform1i(uniform(name), unit);
    });
    setLens(gl, uniform, lens);
    gl.uniform1f(uniform("covarianceUnit"), model.covarianceUnit);
    gl.uniform1f(uniform("harmonicUnit"), model.harmonicUnit);
    gl.uniform1i(uniform("degree"), model.degree);
    gl.uniform1f(uniform("pointSize"), pointSize);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.count);
    gl.bindVertexArray(null);
  }
}

function makeSplats(gl) {
  const shared = buildProgram(gl, SPLAT_VERTEX, SPLAT_FRAGMENT);
  shared.corners = gl.createBuffer();
  gl.bindBuffer(gl.ARRAY_BUFFER, shared.corners);
  gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
  return scene.models.map((_, index) => new Splats(gl, shared, index));
}
