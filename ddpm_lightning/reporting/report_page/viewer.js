// The viewer: one pane for each method; what one does in a pane is done in all of them.
"use strict";
(() => {
  const images = JSON.parse(document.getElementById("viewer-images").textContent);
  if (!images.length) return;
  const $ = id => document.getElementById(id);
  const panes = $("panes"), choice = $("image");
  const view = { scale: 1, x: 0, y: 0 };              // x and y in parts of the frame
  let shown = [];
  $("looking").hidden = false;
  images.forEach((image, index) => choice.add(new Option(image.name, index)));

  const chosen = name => document.querySelector(`input[name=${name}]:checked`).value;
  const element = (tag, className, parent) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    parent.append(made);
    return made;
  };

  function build() {
    const image = images[choice.value];
    panes.replaceChildren();
    shown = image.methods.map(method => {
      const pane = element("div", "pane", panes);
      element("h3", "", pane).textContent = method.name;
      const frame = element("div", "frame", pane);
      frame.style.setProperty("--ratio", `${image.size[1]} / ${image.size[0]}`);
      frame.tabIndex = 0;
      frame.setAttribute("role", "img");
      frame.setAttribute("aria-label", `${method.name}, image ${image.name}`);
      const layers = {};
      for (const name of ["over", "under", "spread"]) {
        const layer = element("div", "layer", frame);
        layers[name] = { layer, picture: element("img", "", layer) };
        layers[name].picture.alt = "";
      }
      layers.divider = element("div", "divider", frame);
      if (method.files.std && image.std_full) {         // one scale for all methods
        const top = +image.std_full.toPrecision(3);
        element("small", "", pane).textContent = `standard deviation: yellow is ${top} or more`;
      }
      if (method.pixel_size) layers.bar = element("div", "bar", frame);
      listen(frame);
      return { frame, layers, method, width: image.size[1] };
    });
    draw();
  }

  function draw() {
    view.scale = Math.min(Math.max(view.scale, 1), 32);
    view.x = Math.min(Math.max(view.x, 0), 1 - 1 / view.scale);
    view.y = Math.min(Math.max(view.y, 0), 1 - 1 / view.scale);
    const line = $("line").value, spread = $("spread").value / 100;
    for (const { frame, layers, method, width } of shown) {
      const files = method.files;
      layers.over.picture.src = files[chosen("over")] || files.average;
      layers.under.picture.src = files[chosen("under")];
      layers.spread.layer.hidden = !files.std;
      if (files.std) layers.spread.picture.src = files.std;
      layers.spread.layer.style.opacity = spread;
      layers.under.layer.style.clipPath = `inset(0 ${100 - line}% 0 0)`;
      layers.divider.style.left = `${line}%`;
      const transform = `scale(${view.scale}) translate(${-100 * view.x}%, ${-100 * view.y}%)`;
      for (const name of ["over", "under", "spread"]) layers[name].picture.style.transform = transform;
      if (layers.bar) bar(layers.bar, method.pixel_size * width / view.scale, frame.clientWidth);
    }
  }

  function bar(place, micrometres, pixels) {           // a round length of a quarter of the frame at most
    const wanted = micrometres / 4, power = 10 ** Math.floor(Math.log10(wanted));
    const length = power * [5, 2, 1].find(step => step * power <= wanted * 1.000001);
    const text = length >= 1 ? `${+length.toPrecision(1)} µm` : `${+(1000 * length).toPrecision(1)} nm`;
    place.textContent = text;
    element("i", "", place).style.width = `${pixels * length / micrometres}px`;
  }

  function zoom(factor, u, v) {                        // (u, v): the place of the frame that stays where it is
    const before = view.scale;
    view.scale = Math.min(Math.max(before * factor, 1), 32);
    view.x += u * (1 / before - 1 / view.scale);
    view.y += v * (1 / before - 1 / view.scale);
    draw();
  }

  function listen(frame) {
    const fingers = new Map();
    const place = event => {
      const box = frame.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    frame.addEventListener("wheel", event => {
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 400), ...place(event));
    }, { passive: false });
    frame.addEventListener("pointerdown", event => {
      frame.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, place(event));
    });
    frame.addEventListener("pointermove", event => {
      const last = fingers.get(event.pointerId);
      if (!last) return;
      const now = place(event), others = [...fingers.entries()].filter(([id]) => id !== event.pointerId);
      if (others.length) {
        const [, other] = others[0], far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) + 1e-3;
        fingers.set(event.pointerId, now);
        zoom(far(now, other) / far(last, other), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
        return;
      }
      view.x -= (now[0] - last[0]) / view.scale;
      view.y -= (now[1] - last[1]) / view.scale;
      fingers.set(event.pointerId, now);
      draw();
    });
    for (const end of ["pointerup", "pointercancel"])
      frame.addEventListener(end, event => fingers.delete(event.pointerId));
    frame.addEventListener("keydown", event => {
      const step = 0.1 / view.scale;
      const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
      if (move) { view.x += move[0]; view.y += move[1]; draw(); }
      else if (event.key === "+" || event.key === "=") zoom(1.25, 0.5, 0.5);
      else if (event.key === "-") zoom(0.8, 0.5, 0.5);
      else if (event.key === "0") { view.scale = 1; draw(); }
      else return;
      event.preventDefault();
    });
  }

  $("closer").onclick = () => zoom(1.5, 0.5, 0.5);
  $("farther").onclick = () => zoom(1 / 1.5, 0.5, 0.5);
  $("whole").onclick = () => { view.scale = 1; draw(); };
  choice.onchange = build;
  document.querySelectorAll("input").forEach(input => input.addEventListener("input", draw));
  window.addEventListener("resize", draw);
  build();
})();
