// A canvas with margins and a second one above it for what follows the pointer. Sizes are CSS pixels.
class Plot {
  constructor(id, height, label) {
    this.section = document.getElementById(id);
    this.box = this.section.querySelector(".plot");
    this.height = height;
    this.left = 104;
    this.right = 14;
    this.top = 6;
    this.bottom = 22;
    this.box.tabIndex = 0;
    this.box.setAttribute("role", "group");
    this.box.setAttribute("aria-label", label);
    this.box.setAttribute("aria-describedby", "keys");
    this.base = document.createElement("canvas");
    this.overlay = document.createElement("canvas");
    this.box.append(this.base, this.overlay);
    this.setHeight(height);
    new ResizeObserver(() => this.invalidate()).observe(this.box);
    this.listen();
  }
  setHeight(height) {
    this.height = height;
    this.box.style.height = `${height}px`;
  }
  empty(text) {
    const note = this.section.querySelector(".empty") || element("p", "");
    note.className = "empty";
    note.textContent = text;
    note.hidden = text === "";
    this.section.append(note);
    this.box.hidden = text !== "";
  }

  get inner() {
    return Math.max(1, this.width - this.left - this.right);
  }
  get floor() {
    return this.height - this.bottom;
  }

  invalidate() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }
  invalidateOverlay() {
    if (this.waiting || this.overlayWaiting) return;
    this.overlayWaiting = true;
    requestAnimationFrame(() => {
      this.overlayWaiting = false;
      if (!this.waiting) this.drawOverlay();
    });
  }
  prepare(canvas) {
    const scale = devicePixelRatio || 1;
    const w = Math.round(this.width * scale), h = Math.round(this.height * scale);
    if (canvas.width !== w || canvas.height !== h) {
      canvas.width = w;
      canvas.height = h;
    }
    const g = canvas.getContext("2d");
    g.setTransform(scale, 0, 0, scale, 0, 0);
    g.clearRect(0, 0, this.width, this.height);
    g.font = '11.5px system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif';
    return g;
  }
  draw() {
    this.width = this.box.clientWidth;
    if (this.width === 0) return;
    this.box.dataset.left = this.left;
    this.box.dataset.right = this.width - this.right;
    const g = this.prepare(this.base);
    this.paint(g);
    this.drawOverlay();
  }
  drawOverlay() {
    if (!this.width) return;
    this.paintOverlay(this.prepare(this.overlay));
  }
  offset(event) {
    const box = this.box.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }
}

// A picture over time: all of them share view.js.
class TimePlot extends Plot {
  constructor(id, height, label) {
    super(id, height, label);
    view.plots.push(this);
  }
  x(at) {
    return this.left + (at - view.begin) / view.span * this.inner;
  }
  timeAt(x) {
    const part = Math.min(Math.max((x - this.left) / this.inner, 0), 1);
    return view.begin + part * view.span;
  }

  listen() {
    const box = this.box;
    box.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      const [x] = this.offset(event);
      this.drag = {from: x, to: x, begin: view.begin, pan: event.shiftKey};
      box.setPointerCapture(event.pointerId);
    });
    box.addEventListener("pointermove", (event) => this.moved(event));
    box.addEventListener("pointerup", () => this.dropped());
    box.addEventListener("pointercancel", () => {
      this.drag = null;
    });
    box.addEventListener("pointerleave", () => {
      tip.hide();
      view.point(null);
    });
    box.addEventListener("dblclick", () => view.reset());
    box.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== box) return;
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        const move = event.deltaX / this.inner * view.span;
        view.show(view.begin + move, view.end + move);
      } else {
        view.zoom(Math.exp(Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 100) / 300),
          this.timeAt(this.offset(event)[0]));
      }
    }, {passive: false});
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("blur", () => {
      tip.hide();
      view.point(null);
    });
  }
  moved(event) {
    const [x, y] = this.offset(event);
    this.pointerY = y;
    if (this.drag) {
      this.drag.to = x;
      if (this.drag.pan) {
        const move = (this.drag.from - x) / this.inner * view.span;
        view.show(this.drag.begin + move, this.drag.begin + move + view.span);
      }
    }
    view.point(this.timeAt(x));
    this.tell(event.clientX, event.clientY);
  }
  dropped() {
    const drag = this.drag;
    this.drag = null;
    if (!drag || drag.pan) return;
    if (Math.abs(drag.to - drag.from) > 4) {
      view.show(this.timeAt(Math.min(drag.from, drag.to)), this.timeAt(Math.max(drag.from, drag.to)));
    }
  }
  tell(x, y) {
    const about = this.describe(view.cursor);
    if (about) tip.show(about.title, about.rows, x, y);
    else tip.hide();
  }
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = view.cursor ?? (view.begin + view.end) / 2;
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    const climb = {ArrowUp: -1, ArrowDown: 1}[event.key];
    if (step && event.shiftKey) {
      view.show(view.begin + step * view.span / 8, view.end + step * view.span / 8);
    } else if (step) {
      view.point(Math.min(Math.max(at + step * view.span / 100, view.begin), view.end));
    } else if (climb && this.climbs) {
      this.pointerY = Math.min(Math.max((this.pointerY ?? this.top) + climb * 8, this.top), this.floor);
      view.point(at);
    } else if (event.key === "+" || event.key === "=") {
      view.zoom(0.5, at);
    } else if (event.key === "-") {
      view.zoom(2, at);
    } else if (event.key === "0") {
      view.reset();
    } else if (event.key === "Escape") {
      view.point(null);
      return tip.hide();
    } else {
      return;
    }
    event.preventDefault();
    const cursor = Math.min(Math.max(view.cursor ?? at, view.begin), view.end);
    view.point(cursor);
    const about = this.describe(cursor);
    if (!about) return;
    const box = this.box.getBoundingClientRect();
    tip.show(about.title, about.rows, box.left + this.x(cursor), box.top + this.height / 3);
    tip.say(about.title, about.rows);
  }

  paintOverlay(g) {
    if (this.drag && !this.drag.pan && Math.abs(this.drag.to - this.drag.from) > 4) {
      const from = Math.max(Math.min(this.drag.from, this.drag.to), this.left);
      const to = Math.min(Math.max(this.drag.from, this.drag.to), this.width - this.right);
      g.globalAlpha = 0.16;
      g.fillStyle = theme.accent;
      g.fillRect(from, this.top, to - from, this.floor - this.top);
      g.globalAlpha = 1;
      g.strokeStyle = theme.accent;
      g.strokeRect(from + 0.5, this.top + 0.5, to - from - 1, this.floor - this.top - 1);
    }
    if (view.cursor === null || view.cursor < view.begin || view.cursor > view.end) return;
    const x = Math.round(this.x(view.cursor)) + 0.5;
    g.strokeStyle = theme.cursor;
    g.globalAlpha = 0.55;
    g.beginPath();
    g.moveTo(x, this.top);
    g.lineTo(x, this.floor);
    g.stroke();
    g.globalAlpha = 1;
  }
  paintTimeAxis(g) {
    g.fillStyle = theme.soft;
    g.textAlign = "center";
    g.textBaseline = "top";
    for (const tick of timeTicks(view.begin, view.end, Math.max(2, Math.floor(this.inner / 95)))) {
      const x = this.x(tick.at);
      const half = g.measureText(tick.label).width / 2;
      g.fillText(tick.label, Math.min(Math.max(x, this.left + half), this.width - this.right - half), this.floor + 6);
      g.fillRect(Math.round(x), this.floor, 1, 4);
    }
  }
  // A line across with its label, for each [value, label].
  paintLines(g, lines, y) {
    g.textAlign = "right";
    g.textBaseline = "middle";
    for (const [value, label] of lines) {
      const at = Math.round(y(value));
      g.fillStyle = theme.grid;
      g.fillRect(this.left, at, this.inner, 1);
      g.fillStyle = theme.soft;
      g.fillText(label, this.left - 8, at);
    }
  }
}
