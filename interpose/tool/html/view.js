// The part of the run that all pictures of time show, and the moment under the cursor.
const view = {
  whole: 1, begin: 0, end: 1, cursor: null, plots: [],

  get span() {
    return this.end - this.begin;
  },
  show(begin, end) {
    const span = Math.min(Math.max(end - begin, Math.min(this.whole, 200)), this.whole);
    this.begin = Math.min(Math.max(begin, 0), this.whole - span);
    this.end = this.begin + span;
    this.changed();
  },
  zoom(factor, at) {
    const span = Math.min(this.span * factor, this.whole);
    const part = (at - this.begin) / this.span;
    this.show(at - part * span, at - part * span + span);
  },
  reset() {
    this.show(0, this.whole);
  },
  changed() {
    const root = document.documentElement.dataset;
    root.begin = this.begin;
    root.end = this.end;
    document.getElementById("reset").disabled = this.span >= this.whole;
    for (const plot of this.plots) plot.invalidate();
  },
  point(at) {
    this.cursor = at;
    for (const plot of this.plots) plot.invalidateOverlay();
  },
};

// Colours of the theme for the canvases, which know no variables.
const theme = {};
function readTheme() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["page", "paper", "edge", "text", "soft", "grid", "device", "host", "idle",
    "moved", "live", "budget", "held", "failure", "warning", "clean", "cursor", "device-tint",
    "host-tint", "accent"]) {
    theme[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

function rgb(colour) {
  const value = parseInt(colour.slice(1), 16);
  return [value >> 16, value >> 8 & 255, value & 255];
}

// The box beside the pointer. Rows are {kind, name, value}; texts of a log are only ever text.
const tip = {
  show(title, rows, x, y) {
    const box = document.getElementById("tip");
    box.replaceChildren();
    box.append(element("b", title));
    for (const row of rows) {
      const line = document.createElement("div");
      const name = element("span", row.name);
      const swatch = document.createElement("i");
      swatch.className = row.kind || "none";
      name.prepend(swatch);
      line.append(name, element("em", row.value));
      box.append(line);
    }
    box.hidden = false;
    const room = 14;
    const {width, height} = box.getBoundingClientRect();
    const right = x + room + width > innerWidth ? x - room - width : x + room;
    box.style.left = `${Math.max(4, right)}px`;
    box.style.top = `${Math.max(4, Math.min(y + room, innerHeight - height - 4))}px`;
  },
  hide() {
    document.getElementById("tip").hidden = true;
  },
  say(title, rows) {
    document.getElementById("spoken").textContent =
      [title, ...rows.map((row) => `${row.name} ${row.value}`)].join(", ");
  },
};

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}
