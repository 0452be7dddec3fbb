// Two pictures of one size, one above the other, with a divider; both zoom and move as one.

const LEAST_ZOOM = 0.02, MOST_ZOOM = 32, STEP = 1.25;
const COARSE = 4; // from this zoom on, pixels are shown as squares
const MOST_FITTED = 3; // small photos are not blown up further to fit

export class Viewer {
  constructor(root) {
    this.stage = root.querySelector("#stage");
    this.before = root.querySelector("#before");
    this.after = root.querySelector("#after");
    this.layer = root.querySelector("#after-layer");
    this.divider = root.querySelector("#divider");
    this.split = 50;
    this.zoom = 1;
    this.left = this.top = 0;
    this.fitted = true;
    this.pointers = new Map();
    this.#listen(root);
  }

  // Show two addresses of pictures; the place stays where it is when the size does.
  async show(before, after) {
    const size = `${this.before.naturalWidth}×${this.before.naturalHeight}`;
    this.before.src = before;
    this.after.src = after;
    await Promise.all([this.before.decode(), this.after.decode()]);
    if (size !== `${this.before.naturalWidth}×${this.before.naturalHeight}`) this.fit();
    this.#draw();
  }

  get width() { return this.before.naturalWidth; }
  get height() { return this.before.naturalHeight; }

  fit() {
    const { clientWidth, clientHeight } = this.stage;
    if (!this.width || !clientWidth) return;
    const room = Math.min(clientWidth / this.width, clientHeight / this.height);
    this.zoom = Math.min(room, MOST_FITTED / devicePixelRatio);
    this.left = (clientWidth - this.width * this.zoom) / 2;
    this.top = (clientHeight - this.height * this.zoom) / 2;
    this.fitted = true;
    this.#draw();
  }

  // One pixel of the photo is one pixel of the screen.
  pixels() { this.zoomTo(1 / devicePixelRatio); }

  zoomBy(factor, x, y) { this.zoomTo(this.zoom * factor, x, y); }

  // Zoom about a point of the stage, by default its middle.
  zoomTo(zoom, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    zoom = Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, zoom));
    this.left = x - (x - this.left) * zoom / this.zoom;
    this.top = y - (y - this.top) * zoom / this.zoom;
    this.zoom = zoom;
    this.fitted = false;
    this.#draw();
  }

  move(x, y) {
    this.left += x;
    this.top += y;
    this.fitted = false;
    this.#draw();
  }

  splitAt(percent) {
    this.split = Math.min(100, Math.max(0, percent));
    this.#draw();
  }

  #draw() {
    // Whole pixels of the screen, so that both pictures are sampled alike and sharply.
    const snap = (value) => Math.round(value * devicePixelRatio) / devicePixelRatio;
    const { clientWidth, clientHeight } = this.stage;
    // Some of the picture always stays in sight.
    const keep = (at, length, room) => Math.min(room - 40, Math.max(40 - length, at));
    this.left = keep(this.left, this.width * this.zoom, clientWidth);
    this.top = keep(this.top, this.height * this.zoom, clientHeight);
    const place = `translate(${snap(this.left)}px, ${snap(this.top)}px) scale(${this.zoom})`;
    this.before.style.transform = this.after.style.transform = place;
    // A result of another size, which cannot be, would still lie on its original.
    this.after.style.width = `${this.width}px`;
    this.layer.style.clipPath = `inset(0 0 0 ${this.split}%)`;
    this.divider.style.left = `${this.split}%`;
    this.divider.setAttribute("aria-valuenow", Math.round(this.split));
    this.stage.classList.toggle("coarse", this.zoom * devicePixelRatio >= COARSE);
    this.stage.dataset.zoom = this.zoom.toFixed(4);
  }

  #listen(root) {
    const click = (id, action) => root.querySelector(id).addEventListener("click", action);
    click("#fit", () => this.fit());
    click("#pixels", () => this.pixels());
    click("#in", () => this.zoomBy(STEP));
    click("#out", () => this.zoomBy(1 / STEP));
    new ResizeObserver(() => (this.fitted ? this.fit() : this.#draw())).observe(this.stage);
    this.stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      const { x, y } = this.#point(event);
      this.zoomBy(Math.exp(-event.deltaY / (event.deltaMode ? 20 : 400)), x, y);
    }, { passive: false });
    this.stage.addEventListener("dblclick", (event) => {
      const { x, y } = this.#point(event);
      if (this.fitted) this.zoomTo(1 / devicePixelRatio, x, y);
      else this.fit();
    });
    this.stage.addEventListener("keydown", (event) => this.#key(event));
    this.stage.addEventListener("pointerdown", (event) => this.#down(event));
    this.stage.addEventListener("pointermove", (event) => this.#drag(event));
    for (const name of ["pointerup", "pointercancel"]) {
      this.stage.addEventListener(name, (event) => {
        this.pointers.delete(event.pointerId);
        this.stage.classList.toggle("moving", this.pointers.size > 0);
      });
    }
  }

  #point(event) {
    const box = this.stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  #down(event) {
    if (event.button) return;
    this.stage.setPointerCapture(event.pointerId);
    const divides = event.target === this.divider && this.pointers.size === 0;
    this.pointers.set(event.pointerId, { ...this.#point(event), divides });
    this.stage.classList.toggle("moving", !divides);
  }

  #drag(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    const now = { ...this.#point(event), divides: last.divides };
    if (last.divides) this.splitAt(100 * now.x / this.stage.clientWidth);
    else if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map((p) => p[1]);
      const apart = (a) => Math.hypot(a.x - other.x, a.y - other.y) || 1;
      this.zoomBy(apart(now) / apart(last), other.x, other.y);
    } else this.move(now.x - last.x, now.y - last.y);
    this.pointers.set(event.pointerId, now);
  }

  #key(event) {
    const step = event.shiftKey ? 60 : 2;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const others = {
      "+": () => this.zoomBy(STEP), "=": () => this.zoomBy(STEP), "-": () => this.zoomBy(1 / STEP),
      "0": () => this.fit(), "1": () => this.pixels(),
      Home: () => this.splitAt(0), End: () => this.splitAt(100),
    };
    const arrow = arrows[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (arrow && event.shiftKey) this.move(-arrow[0] * step, -arrow[1] * step);
    else if (arrow && arrow[0]) this.splitAt(this.split + arrow[0] * step);
    else if (others[event.key]) others[event.key]();
    else return;
    event.preventDefault();
  }
}
