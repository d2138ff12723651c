// ---- Where the picture is taken from, and the hands that move it

const RADIANS_PER_PX = 0.008, RADIANS_PER_KEY = Math.PI / 36, STEEPEST = 1.55;

// A view is shared by all models: angles, and lengths in radii of the model it looks at.
function firstView() {
  const { azimuth, elevation, distance } = scene;
  return { azimuth, elevation, distance, offset: [0, 0, 0], camera: -1 };
}

// The camera's axes in the scene, for a view that looks at its target from an azimuth and an elevation.
function axes({ azimuth, elevation }) {
  const [ca, sa, ce, se] = [Math.cos(azimuth), Math.sin(azimuth), Math.cos(elevation), Math.sin(elevation)];
  return { right: [-sa, ca, 0], down: [se * ca, se * sa, -ce], forward: [-ce * ca, -ce * sa, -se] };
}

function targetOf(view, model) {
  return model.target.map((value, k) => value + model.radius * view.offset[k]);
}

// What a model is drawn through, in a viewport of this many pixels.
function lensOf(view, model, width, height) {
  const near = NEAR * model.radius;
  if (view.camera >= 0) {
    const camera = scene.cameras[view.camera], zoom = Math.min(width / camera.width, height / camera.height);
    const principal = [zoom * (camera.cx - camera.width / 2), zoom * (camera.cy - camera.height / 2)];
    const { fx, fy, skew } = camera;
    return { rotation: camera.rotation, eye: camera.centre, fx: zoom * fx, fy: zoom * fy, skew: zoom * skew, principal,
      width, height, near };
  }
  const { right, down, forward } = axes(view), focal = 0.5 * Math.min(width, height) / Math.tan(scene.fov / 2);
  const eye = targetOf(view, model).map((value, k) => value - model.radius * view.distance * forward[k]);
  return { rotation: [...right, ...down, ...forward], eye, fx: focal, fy: focal, skew: 0, principal: [0, 0],
    width, height, near };
}

// Where a point falls in that viewport, from its middle; null behind the camera.
function project(lens, point) {
  const d = point.map((value, k) => value - lens.eye[k]);
  const [x, y, z] = [0, 3, 6].map((row) => d.reduce((sum, value, k) => sum + lens.rotation[row + k] * value, 0));
  if (z < lens.near) return null;
  return [(lens.fx * x + lens.skew * y) / z + lens.principal[0], lens.fy * y / z + lens.principal[1]];
}

// From a camera's view to the nearest view that can be turned.
function leaveCamera(view) {
  if (view.camera < 0) return;
  const [x, y, z] = scene.cameras[view.camera].rotation.slice(6);
  view.azimuth = Math.atan2(-y, -x);
  view.elevation = Math.asin(Math.min(1, Math.max(-1, -z)));
  view.camera = -1;
}

function turn(view, right, up) {
  leaveCamera(view);
  view.azimuth -= right;
  view.elevation = Math.min(STEEPEST, Math.max(-STEEPEST, view.elevation + up));
}

function zoom(view, factor) {
  leaveCamera(view);
  view.distance = Math.min(1e3, Math.max(1e-2, view.distance * factor));
}

// Moves what is seen by so many pixels of a viewport whose shorter side has `side`.
function move(view, dx, dy, side) {
  leaveCamera(view);
  const { right, down } = axes(view), step = 2 * view.distance * Math.tan(scene.fov / 2) / side;
  for (let k = 0; k < 3; k++) view.offset[k] -= step * (dx * right[k] + dy * down[k]);
}

// Mouse, pen and touch on the canvas. `side` tells the viewport's shorter side; `clicked` gets presses without a drag.
function listenToPointers(canvas, view, side, redraw, clicked) {
  const fingers = new Map();
  let travelled = 0;
  const span = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    if (fingers.size === 0) travelled = 0;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointermove", (event) => {
    const finger = fingers.get(event.pointerId);
    if (!finger) return;
    const dx = event.clientX - finger.x, dy = event.clientY - finger.y, before = fingers.size === 2 ? span() : 0;
    Object.assign(finger, { x: event.clientX, y: event.clientY });
    travelled += Math.abs(dx) + Math.abs(dy);
    if (travelled === 0) return;
    if (fingers.size === 2) {
      zoom(view(), before / Math.max(span(), 1));
      move(view(), dx / 2, dy / 2, side());
    } else if (event.shiftKey || event.buttons === 2) {
      move(view(), dx, dy, side());
    } else if (fingers.size === 1) {
      turn(view(), RADIANS_PER_PX * dx, RADIANS_PER_PX * dy);
    }
    redraw();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (fingers.delete(event.pointerId) && travelled < 4) clicked(event.clientX, event.clientY);
  });
  canvas.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(view(), Math.exp(0.001 * event.deltaY * (event.deltaMode === 1 ? 30 : 1)));
    redraw();
  }, { passive: false });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
}
