// ---- Cameras as frustums, with what they saw

const FRUSTUM_COLOUR = [0.25, 0.5, 0.95, 1], FRUSTUM_DEPTH = 0.16;  // of the camera's distance
const EDGES = [0, 1, 0, 2, 0, 3, 0, 4, 1, 2, 2, 3, 3, 4, 4, 1];

const FRUSTUM_VERTEX = `#version 300 es
precision highp float;
uniform mat3 rotation;
uniform vec3 eye;
uniform mat2 intrinsics;
uniform vec2 principal;
uniform vec2 viewport;
uniform float near;
in vec3 position;
in vec2 uv;
out vec2 at;

void main() {
  vec3 p = rotation * (position - eye);
  vec2 pixel = intrinsics * p.xy + principal * p.z;  // times depth
  gl_Position = vec4(2.0 * pixel.x / viewport.x, -2.0 * pixel.y / viewport.y, p.z - 2.0 * near, p.z);
  at = uv;
}`;

const FRUSTUM_FRAGMENT = `#version 300 es
precision highp float;
uniform vec4 colour;
uniform sampler2D picture;
uniform bool textured;
in vec2 at;
out vec4 fragment;

void main() { fragment = textured ? texture(picture, at) : colour; }`;

class Frustums {
  constructor(gl, redraw) {
    Object.assign(this, { gl, ...buildProgram(gl, FRUSTUM_VERTEX, FRUSTUM_FRAGMENT) });
    this.buffer = gl.createBuffer();
    this.array = gl.createVertexArray();
    this.pictures = scene.cameras.map((camera) => camera.picture && this.load(camera.picture, redraw));
  }

  load(source, redraw) {
    const holder = { texture: null }, image = new Image();
    image.onload = () => {
      const gl = this.gl;
      holder.texture = gl.createTexture();
      gl.activeTexture(gl.TEXTURE0);
      gl.bindTexture(gl.TEXTURE_2D, holder.texture);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, image);
      gl.generateMipmap(gl.TEXTURE_2D);
      redraw();
    };
    image.src = source;
    return holder;
  }

  // Those before (or behind) a point: splats have no depth to hide lines with, so the two halves are drawn apart.
  draw(lens, target, inFront, except) {
    const { gl, uniform } = this, forward = lens.rotation.slice(6);
    const depth = (point) => forward.reduce((sum, value, k) => sum + value * point[k], 0);
    gl.useProgram(this.program);
    gl.bindVertexArray(this.array);
    setLens(gl, uniform, lens);
    gl.uniform4fv(uniform("colour"), FRUSTUM_COLOUR);
    gl.uniform1i(uniform("picture"), 0);
    scene.cameras.forEach((camera, index) => {
      if (index === except || depth(camera.centre) < depth(target) !== inFront) return;
      const points = frustumPoints(camera, target), picture = this.pictures[index]?.texture;
      if (picture) {
        gl.activeTexture(gl.TEXTURE0);
        gl.bindTexture(gl.TEXTURE_2D, picture);
        gl.uniform1i(uniform("textured"), 1);
        this.feed([1, 2, 4, 3].flatMap((k) => [...points[k], k === 2 || k === 3 ? 1 : 0, k > 2 ? 1 : 0]));
        gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
      }
      gl.uniform1i(uniform("textured"), 0);
      this.feed(EDGES.flatMap((k) => [...points[k], 0, 0]));
      gl.drawArrays(gl.LINES, 0, EDGES.length);
    });
    gl.bindVertexArray(null);
  }

  feed(values) {
    const gl = this.gl;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(values), gl.DYNAMIC_DRAW);
    for (const [name, size, start] of [["position", 3, 0], ["uv", 2, 12]]) {
      const place = gl.getAttribLocation(this.program, name);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, size, gl.FLOAT, false, 20, start);
    }
  }
}

// The apex, then the picture's corners from the top left clockwise.
function frustumPoints(camera, target) {
  const { centre, rotation, width, height } = camera;
  const depth = FRUSTUM_DEPTH * Math.hypot(...centre.map((value, k) => value - target[k]));
  const corners = [[0, 0], [width, 0], [width, height], [0, height]].map(([u, v]) => {
    const y = (v - camera.cy) / camera.fy, x = (u - camera.cx - camera.skew * y) / camera.fx;
    return centre.map((value, k) => value + depth * (x * rotation[k] + y * rotation[3 + k] + rotation[6 + k]));
  });
  return [centre, ...corners];
}
