// ---- The page: which models, which frame, which background

const BACKGROUNDS = ["#ffffff", "#9aa0a8", "#15171a"];
const CLICK_PX = 24;  // around a camera's centre
const find = (id) => document.getElementById(id);
const state = {
  view: firstView(), only: -1, frame: 0, playing: false, showCameras: false, background: BACKGROUNDS[0], pointSize: 1,
};
const numFrames = Math.max(...scene.models.map((model) => model.frames.length));

// Rectangles of the shown models in CSS pixels, as near to squares as the window allows.
function cells(width, height) {
  const shown = state.only >= 0 ? [state.only] : scene.models.map((_, index) => index);
  let columns = 1, best = 0;
  for (let k = 1; k <= shown.length; k++) {
    const side = Math.min(width / k, height / Math.ceil(shown.length / k));
    if (side > best) [columns, best] = [k, side];
  }
  const rows = Math.ceil(shown.length / columns), [w, h] = [Math.floor(width / columns), Math.floor(height / rows)];
  const place = (k) => ({ left: (k % columns) * w, top: Math.floor(k / columns) * h, width: w, height: h });
  return shown.map((index, k) => ({ index, ...place(k) }));
}

function start() {
  const canvas = find("canvas");
  const gl = canvas.getContext("webgl2", { antialias: false, depth: false, alpha: false });
  if (!gl) {
    find("help").textContent = "This page needs WebGL 2, which this browser does not offer.";
    find("help").hidden = false;
    return;
  }
  canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
  canvas.addEventListener("webglcontextrestored", () => location.reload());
  gl.enable(gl.BLEND);
  gl.enable(gl.SCISSOR_TEST);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  let pending = false;
  const redraw = () => {
    if (!pending) requestAnimationFrame(draw);
    pending = true;
  };
  const splats = makeSplats(gl), frustums = new Frustums(gl, redraw);
  const layout = () => cells(canvas.clientWidth, canvas.clientHeight);

  function draw() {
    pending = false;
    const pixels = (length) => Math.round(length * devicePixelRatio);
    const width = pixels(canvas.clientWidth), height = pixels(canvas.clientHeight);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const colour = [1, 3, 5].map((k) => parseInt(state.background.slice(k, k + 2), 16) / 255);
    gl.clearColor(...colour, 1);
    gl.scissor(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT);
    for (const cell of layout()) {
      const [left, w, h] = [cell.left, cell.width, cell.height].map(pixels), bottom = height - pixels(cell.top) - h;
      gl.viewport(left, bottom, w, h);
      gl.scissor(left, bottom, w, h);
      const model = splats[cell.index], target = targetOf(state.view, model.model);
      const lens = lensOf(state.view, model.model, w, h);
      model.show(state.frame);
      if (state.showCameras) frustums.draw(lens, target, false, state.view.camera);
      model.draw(lens, state.pointSize);
      if (state.showCameras) frustums.draw(lens, target, true, state.view.camera);
    }
  }

  function clicked(x, y) {
    if (!state.showCameras) return;
    const cell = layout().find((c) => x >= c.left && x < c.left + c.width && y >= c.top && y < c.top + c.height);
    if (!cell) return;
    const lens = lensOf(state.view, scene.models[cell.index], cell.width, cell.height);
    const [dx, dy] = [x - cell.left - cell.width / 2, y - cell.top - cell.height / 2];
    const distances = scene.cameras.map((camera) => {
      const at = project(lens, camera.centre);
      return at ? Math.hypot(at[0] - dx, at[1] - dy) : Infinity;
    });
    const nearest = distances.indexOf(Math.min(...distances));
    if (distances[nearest] < CLICK_PX) change(() => { state.view.camera = nearest; });
  }

  // Every change goes through here: the controls say what the picture shows.
  function change(action) {
    action();
    showState(layout());
    redraw();
  }
  function savePicture() {
    draw();  // the drawing buffer is only full right after
    canvas.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${document.title.replace(/[^\w.-]+/g, "_") || "picture"}.png`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }
  const side = () => Math.min(...layout().slice(0, 1).flatMap((cell) => [cell.width, cell.height]));
  listenToPointers(canvas, () => state.view, side, () => change(() => {}), clicked);
  canvas.addEventListener("dblclick", () => change(reset));
  addEventListener("resize", () => change(() => {}));
  listenToControls(change, savePicture, side);
  playOn(change);
  change(() => {});
}

function reset() { state.view = firstView(); }

function toggleCameras() {
  if (!scene.cameras.length) return;
  state.showCameras = !state.showCameras;
  if (!state.showCameras) return leaveCamera(state.view);
  const { target, radius } = scene.models[Math.max(state.only, 0)];
  const away = scene.cameras.map(({ centre }) => Math.hypot(...centre.map((value, k) => value - target[k])));
  const farthest = Math.max(...away);
  state.view.distance = Math.max(state.view.distance, 1.15 * farthest / radius / Math.sin(scene.fov / 2));
}

function nextCamera() {
  if (scene.cameras.length) state.view.camera = (state.view.camera + 1) % scene.cameras.length;
}

function chooseModel(index) {
  if (index < scene.models.length) state.only = scene.models.length > 1 ? index : -1;
}

function stepFrame(step) { state.frame = (state.frame + step + numFrames) % numFrames; }

function setPointSize(size) { state.pointSize = Math.min(2, Math.max(0.1, size)); }

function nextBackground() {
  state.background = BACKGROUNDS[(BACKGROUNDS.indexOf(state.background) + 1) % BACKGROUNDS.length];
}

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen();
}

function listenToControls(change, savePicture, side) {
  const toggleHelp = () => { find("help").hidden = !find("help").hidden; };
  const toggleGrid = () => { state.only = state.only < 0 && scene.models.length > 1 ? 0 : -1; };
  const togglePlay = () => { state.playing = numFrames > 1 && !state.playing; };
  for (const button of document.querySelectorAll(".dot")) {
    button.onclick = () => change(() => { state.background = button.value; });
  }
  find("colour").oninput = (event) => change(() => { state.background = event.target.value; });
  find("size").oninput = (event) => change(() => setPointSize(Number(event.target.value)));
  find("frame").oninput = (event) =>
    change(() => Object.assign(state, { frame: Number(event.target.value), playing: false }));
  const actions = { reset, grid: toggleGrid, cameras: toggleCameras, through: nextCamera, play: togglePlay,
    "help-button": toggleHelp, help: toggleHelp };
  for (const [id, action] of Object.entries(actions)) find(id).onclick = () => change(action);
  find("save").onclick = savePicture;

  const slide = (dx, dy) => move(state.view, 0.04 * side() * dx, 0.04 * side() * dy, side());
  const arrow = (dx, dy) => (event) =>
    event.shiftKey ? slide(dx, dy) : turn(state.view, RADIANS_PER_KEY * dx, RADIANS_PER_KEY * dy);
  const keys = {
    ArrowLeft: arrow(-1, 0), ArrowRight: arrow(1, 0), ArrowUp: arrow(0, -1), ArrowDown: arrow(0, 1),
    "+": () => zoom(state.view, 1 / 1.1), "=": () => zoom(state.view, 1 / 1.1), "-": () => zoom(state.view, 1.1),
    r: reset, g: toggleGrid, c: toggleCameras, v: nextCamera, b: nextBackground, h: toggleHelp, "?": toggleHelp,
    " ": togglePlay, ",": () => stepFrame(-1), ".": () => stepFrame(1), f: fullScreen, s: savePicture,
    "[": () => setPointSize(state.pointSize - 0.1), "]": () => setPointSize(state.pointSize + 0.1),
    Escape: () => { find("help").hidden = true; leaveCamera(state.view); },
  };
  for (let k = 0; k < 9; k++) keys[String(k + 1)] = () => chooseModel(k);
  addEventListener("keydown", (event) => {
    const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    const pressing = event.key === " " && event.target instanceof HTMLButtonElement;
    const sliding = event.key.startsWith("Arrow") && event.target instanceof HTMLInputElement;
    if (!action || pressing || sliding) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    change(() => action(event));
  });
}

// Frames follow the clock: where drawing is slow, some are left out.
function playOn(change) {
  let began = 0, from = 0, was = false;
  const tick = (now) => {
    if (state.playing && !was) [began, from] = [now, state.frame];
    was = state.playing;
    const due = (from + Math.floor((now - began) * scene.fps / 1000)) % numFrames;
    if (state.playing && due !== state.frame) change(() => { state.frame = due; });
    requestAnimationFrame(tick);
  };
  if (numFrames > 1) requestAnimationFrame(tick);
}

function showState(shown) {
  const pressed = (id, on) => find(id).setAttribute("aria-pressed", String(on));
  const several = scene.models.length > 1, camera = scene.cameras[state.view.camera];
  document.body.style.background = state.background;
  find("size").value = state.pointSize;
  find("timeline").hidden = numFrames < 2;
  find("frame").max = numFrames - 1;
  find("frame").value = state.frame;
  find("play").textContent = state.playing ? "\u23f8" : "\u25b6";
  find("frame-name").textContent = `${state.frame + 1} / ${numFrames}`;
  find("grid").hidden = !several;
  find("cameras").hidden = find("through").hidden = !scene.cameras.length;
  pressed("grid", state.only < 0);
  pressed("cameras", state.showCameras);
  pressed("through", Boolean(camera));
  find("photograph").hidden = !camera;
  if (camera) {
    find("photograph").querySelector("figcaption").textContent = camera.name;
    const image = find("photograph").querySelector("img");
    image.hidden = !camera.picture;
    if (camera.picture && image.src !== camera.picture) image.src = camera.picture;
  }
  find("labels").replaceChildren(...(several || numFrames > 1 ? shown : []).map((cell) => {
    const model = scene.models[cell.index], frame = model.frames[Math.min(state.frame, model.frames.length - 1)];
    const label = document.createElement("div");
    label.textContent = model.frames.length > 1 ? `${model.name}: ${frame.name}` : model.name;
    Object.assign(label.style, { left: `${cell.left + 8}px`, top: `${cell.top + 8}px` });
    return label;
  }));
}

start();
