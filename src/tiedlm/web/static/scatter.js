// Many named points on a canvas: drag, zoom, and go from name to name by keyboard.
// Names are drawn as text, so none of them can be anything else.

import { ink } from "./charts.js";
import { el, spoken } from "./common.js";

const NAMES = 70; // at most, where they do not overlap
const LETTER = 6.6; // pixels, roughly
const LINE = 15;
const REACH = 14; // pixels between the pointer and a point
const MARGIN = 26;
const SHADES = 32;
const MANY = 2000; // points that are drawn as squares, which is quicker
const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };

export class Scatter {
  /** `tell` is called with the point that one has come to, `choose` with the one that is chosen. */
  constructor(label, tell, choose) {
    Object.assign(this, { tell, choose, at: null, moved: false, names: [], pointers: new Map() });
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.node = el("div", { class: "map", tabindex: "0", role: "application", "aria-label": label,
      onkeydown: (event) => this.key(event), onpointerdown: (event) => this.down(event),
      onpointermove: (event) => this.move(event), onpointerup: (event) => this.up(event),
      onpointercancel: (event) => this.up(event), ondblclick: () => this.fit() }, this.canvas);
    this.node.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    new ResizeObserver(() => (this.moved ? this.draw() : this.fit())).observe(this.node);
  }

  /**
   * Show points `{ x, y, word, number }` in the order of importance. `found` are those of a search,
   * the searched one first; `most` is the largest number.
   */
  show(points, found, most) {
    const moved = this.moved && this.points?.length;
    const before = this.found?.[0]?.word;
    Object.assign(this, { points, found, most });
    if (this.at) this.at = points.find((point) => point.word === this.at.word) ?? null;
    if (!moved) {
      this.fit();
    } else if (found.length && found[0].word !== before) {
      const [x, y] = this.place(found[0]);
      if (x < 0 || y < 0 || x > this.width || y > this.height) this.centre = [found[0].x, found[0].y];
    }
    this.draw();
  }

  /** Show everything. */
  fit() {
    [this.width, this.height] = [this.node.clientWidth, this.node.clientHeight];
    if (!this.points?.length || !this.width) return;
    const spans = ["x", "y"].map((axis) => {
      let [low, high] = [Infinity, -Infinity];
      for (const point of this.points) {
        low = Math.min(low, point[axis]);
        high = Math.max(high, point[axis]);
      }
      return [low, high];
    });
    this.centre = spans.map(([low, high]) => (low + high) / 2);
    const rooms = [this.width, this.height].map((size) => size - 2 * MARGIN);
    this.scale = Math.min(...spans.map(([low, high], axis) => rooms[axis] / (high - low || 1)));
    this.moved = false;
    this.draw();
  }

  place(point) {
    return [this.width / 2 + (point.x - this.centre[0]) * this.scale,
      this.height / 2 - (point.y - this.centre[1]) * this.scale];
  }

  zoom(factor, x, y) {
    this.pan((1 - factor) * (x - this.width / 2), (1 - factor) * (y - this.height / 2), factor);
  }

  pan(x, y, factor = 1) {
    this.scale *= factor;
    this.centre = [this.centre[0] - x / this.scale, this.centre[1] + y / this.scale];
    this.moved = true;
    this.draw();
  }

  draw() {
    if (this.waits) return;
    this.waits = true;
    requestAnimationFrame(() => {
      this.waits = false;
      if (this.points?.length && this.scale) this.paint();
    });
  }

  paint() {
    [this.width, this.height] = [this.node.clientWidth, this.node.clientHeight];
    const { canvas, width, height } = this;
    const dots = window.devicePixelRatio || 1;
    const [across, down] = [Math.round(width * dots), Math.round(height * dots)];
    if (canvas.width !== across || canvas.height !== down) Object.assign(canvas, { width: across, height: down });
    const pen = canvas.getContext("2d");
    pen.setTransform(dots, 0, 0, dots, 0, 0);
    pen.fillStyle = ink("--page");
    pen.fillRect(0, 0, width, height);
    this.paintPoints(pen);
    const marked = this.found.length ? this.found : [];
    marked.toReversed().forEach((point) => this.ring(pen, point, point === marked[0] ? 7 : 4.5));
    if (this.at) this.ring(pen, this.at, 6, true);
    this.paintNames(pen, marked);
    canvas.dataset.drawn = this.points.length;
  }

  /** Paint the last points first, so that the most important are on top. */
  paintPoints(pen) {
    const colours = shades();
    const last = Math.log10(Math.max(2, this.most));
    const many = this.points.length > MANY;
    const size = many ? 3.5 : 7;
    let shade = -1;
    for (let index = this.points.length - 1; index >= 0; index -= 1) {
      const point = this.points[index];
      const [x, y] = this.place(point);
      if (x < -size || y < -size || x > this.width + size || y > this.height + size) continue;
      const own = Math.round(((SHADES - 1) * Math.log10(point.number)) / last);
      if (own !== shade) pen.fillStyle = colours[(shade = own)];
      if (many) {
        pen.fillRect(x - size / 2, y - size / 2, size, size);
      } else {
        pen.beginPath();
        pen.arc(x, y, size / 2, 0, 7);
        pen.fill();
      }
    }
  }

  ring(pen, point, radius, hollow = false) {
    const [x, y] = this.place(point);
    pen.beginPath();
    pen.arc(x, y, radius, 0, 7);
    pen.lineWidth = 2;
    pen.strokeStyle = hollow ? ink("--ink") : ink("--page");
    pen.fillStyle = ink("--accent");
    if (!hollow) pen.fill();
    pen.stroke();
  }

  /** Write names: of what was come to and searched first, then of the first that have room. */
  paintNames(pen, marked) {
    const boxes = [];
    const special = new Set(marked);
    const family = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
    this.names = [];
    const write = (point, kind) => {
      const [x, y] = this.place(point);
      const below = kind !== "plain";
      const text = spoken(point.word).slice(0, 40);
      const box = { x, y: y + (below ? LINE + 2 : -LINE + 4), half: (text.length * LETTER * (below ? 1.1 : 1)) / 2 + 3 };
      if (x < 0 || y < 0 || x > this.width || y > this.height) return;
      const clash = boxes.some((other) => Math.abs(other.x - x) < other.half + box.half &&
        Math.abs(other.y - box.y) < LINE);
      if (clash && kind !== "first") return;
      boxes.push(box);
      this.names.push(point);
      pen.font = below ? `700 13px ${family}` : `12px ${family}`;
      const left = Math.max(3, Math.min(this.width - pen.measureText(text).width - 3,
        x - pen.measureText(text).width / 2));
      pen.lineWidth = 3;
      pen.lineJoin = "round";
      pen.strokeStyle = ink("--page");
      pen.strokeText(text, left, box.y + 4);
      pen.fillStyle = below ? ink("--accent") : ink("--ink");
      pen.fillText(text, left, box.y + 4);
    };
    if (this.at) write(this.at, "first");
    marked.filter((point) => point !== this.at).forEach((point, place) => write(point, place ? "found" : "first"));
    for (const point of this.points) {
      if (this.names.length >= NAMES) break;
      if (point !== this.at && !special.has(point) && point.word.length <= 24) write(point, "plain");
    }
  }

  // Keys

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.points?.length) return;
    const { key } = event;
    if (key in ARROWS) this.step(...ARROWS[key]);
    else if (key === "+" || key === "=") this.zoomAtPlace(1.5);
    else if (key === "-") this.zoomAtPlace(1 / 1.5);
    else if (key === "0" || key === "Home") this.fit();
    else if (key === "Enter" && this.at) this.choose(this.at);
    else return;
    event.preventDefault();
  }

  zoomAtPlace(factor) {
    const [x, y] = this.at ? this.place(this.at) : [this.width / 2, this.height / 2];
    this.zoom(factor, x, y);
  }

  /** Go to the nearest name in a direction; the first time, to the one nearest to the middle. */
  step(right, down) {
    const from = this.at ? this.place(this.at) : [this.width / 2, this.height / 2];
    const start = this.at ? null : this.found[0];
    let [best, least] = [start, Infinity];
    for (const point of start ? [] : this.names) {
      const [x, y] = this.place(point);
      const along = (x - from[0]) * right + (y - from[1]) * down;
      const aside = Math.abs((x - from[0]) * down) + Math.abs((y - from[1]) * right);
      if (point === this.at || (this.at && (along <= 0 || aside > along))) continue;
      const far = this.at ? along + aside : Math.hypot(x - from[0], y - from[1]);
      if (far < least) [best, least] = [point, far];
    }
    if (best) this.goTo(best);
  }

  goTo(point) {
    this.at = point;
    this.draw();
    this.tell(point, this.nearest(this.place(point), point, 3));
  }

  /** Return the points nearest to a place. */
  nearest([x, y], except, count, reach = Infinity) {
    return this.points.map((point) => ({ point, far: Math.hypot(...this.place(point).map((one, axis) => one - [x, y][axis])) }))
      .filter(({ point, far }) => point !== except && far < reach)
      .sort((one, other) => one.far - other.far).slice(0, count).map(({ point }) => point);
  }

  // Pointers

  within(event) {
    const frame = this.node.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  down(event) {
    this.node.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.within(event));
    this.dragged = this.pointers.size > 1;
  }

  move(event) {
    if (!this.points?.length) return;
    const place = this.within(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      const [near] = this.nearest(place, null, 1, REACH);
      if (near && near !== this.at) this.goTo(near);
      return;
    }
    const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    if (!this.dragged && Math.hypot(place[0] - before[0], place[1] - before[1]) < 4) return;
    this.dragged = true;
    this.pointers.set(event.pointerId, place);
    if (!other) {
      this.pan(place[0] - before[0], place[1] - before[1]);
      return;
    }
    const apart = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]) || 1;
    this.zoom(apart(place) / apart(before), ...other);
  }

  up(event) {
    const tapped = this.pointers.has(event.pointerId) && !this.dragged;
    this.pointers.delete(event.pointerId);
    if (!tapped || event.type === "pointercancel" || !this.points?.length) return;
    const [near] = this.nearest(this.within(event), null, 1, REACH);
    if (near) this.goTo(near);
  }

  wheel(event) {
    if (!this.points?.length) return;
    event.preventDefault();
    this.zoom(Math.exp(-Math.sign(event.deltaY) * Math.min(0.4, Math.abs(event.deltaY) / 400)), ...this.within(event));
  }
}

/** Return the colours of frequent to rare, from the three of the page's style. */
function shades() {
  const three = [0, 1, 2].map((place) => ink(`--f${place}`).match(/\w\w/g).map((two) => parseInt(two, 16)));
  return Array.from({ length: SHADES }, (_, place) => {
    const where = (2 * place) / (SHADES - 1);
    const first = Math.min(1, Math.floor(where));
    const mixed = three[first].map((one, part) => Math.round(one + (where - first) * (three[first + 1][part] - one)));
    return `rgb(${mixed.join(" ")})`;
  });
}
