// Frames at the peak from the outermost down, as wide as what is held under them.
class IciclePlot extends Plot {
  constructor(id, label) {
    super(id, 80, label);
    this.left = this.right = 0;
    this.rowHeight = 25;
  }
  setData(data, title) {
    this.nodes = [{name: title, bytes: 0, host: 0, count: 0, parent: null, children: [], depth: 0}];
    const root = this.nodes[0];
    for (const [parent, name, size, host, count] of data.nodes) {
      const above = parent < 0 ? root : this.nodes[parent + 1];
      const node = {name: data.names[name], bytes: size, host, count, parent: above, children: [], depth: above.depth + 1};
      above.children.push(node);
      this.nodes.push(node);
    }
    for (const child of root.children) {
      root.bytes += child.bytes;
      root.host += child.host;
      root.count += child.count;
    }
    this.top = 2;
    this.bottom = 2;
    this.shown = this.chosen = root;
    this.hovered = null;
    const depth = this.nodes.reduce((most, node) => Math.max(most, node.depth), 0);
    this.rowHeight = depth > 24 ? 19 : 25;
    this.setHeight((depth + 1) * this.rowHeight + 4);
    this.empty(root.bytes === 0 ? "Nothing was allocated." : "");
    this.invalidate();
  }
  listen() {
    const box = this.box;
    box.addEventListener("pointermove", (event) => {
      const [x, y] = this.offset(event);
      this.hovered = this.at(x, y);
      this.invalidateOverlay();
      if (!this.hovered) return tip.hide();
      const about = this.describe(this.hovered);
      tip.show(about.title, about.rows, event.clientX, event.clientY);
    });
    box.addEventListener("pointerleave", () => {
      this.hovered = null;
      tip.hide();
      this.invalidateOverlay();
    });
    box.addEventListener("click", (event) => {
      const node = this.at(...this.offset(event));
      if (node) this.show(node);
    });
    box.addEventListener("dblclick", () => this.show(this.nodes[0]));
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("blur", () => tip.hide());
  }
  show(node) {
    this.shown = this.chosen = node;
    this.invalidate();
  }
  key(event) {
    const node = this.chosen;
    const siblings = node.parent ? node.parent.children : [node];
    const index = siblings.indexOf(node);
    const next = {
      ArrowDown: node.children[0], ArrowUp: node.parent,
      ArrowLeft: siblings[index - 1], ArrowRight: siblings[index + 1],
    }[event.key];
    if (event.key === "Enter") this.show(node);
    else if (event.key === "Escape" || event.key === "0") this.show(this.nodes[0]);
    else if (next) this.chosen = next;
    else if (!event.key.startsWith("Arrow")) return;
    event.preventDefault();
    if (!this.places.has(this.chosen)) this.show(this.chosen);
    this.draw();
    const place = this.places.get(this.chosen);
    const box = this.box.getBoundingClientRect();
    const about = this.describe(this.chosen);
    if (place) tip.show(about.title, about.rows, box.left + place.x + 20, box.top + place.y + this.rowHeight);
    tip.say(about.title, about.rows);
  }
  at(x, y) {
    for (const [node, place] of this.places || []) {
      if (x >= place.x && x < place.x + place.width && y >= place.y && y < place.y + this.rowHeight) return node;
    }
    return null;
  }
  describe(node) {
    const whole = this.nodes[0].bytes;
    const rows = [
      {kind: "", name: share(node.bytes, whole), value: bytes(node.bytes)},
      {kind: "device", name: "on the device", value: bytes(node.bytes - node.host)},
      {kind: "host", name: "on the host", value: bytes(node.host)},
      {kind: "", name: "allocations", value: String(node.count)},
    ];
    return {title: node.name, rows};
  }
  paint(g) {
    this.places = new Map();
    const above = [];
    for (let node = this.shown; node; node = node.parent) above.unshift(node);
    for (const node of above) this.paintNode(g, node, 0, this.width, node !== this.shown);
    this.paintChildren(g, this.shown, 0, this.width);
  }
  paintChildren(g, node, x, width) {
    for (const child of node.children) {
      const own = child.bytes / node.bytes * width;
      if (own >= 0.5) {
        this.paintNode(g, child, x, own, false);
        this.paintChildren(g, child, x, own);
      }
      x += own;
    }
  }
  paintNode(g, node, x, width, passed) {
    const y = this.top + node.depth * this.rowHeight;
    const w = Math.max(0.5, width - 1), h = this.rowHeight - 2;
    this.places.set(node, {x, y, width});
    g.globalAlpha = passed ? 0.6 : 1;
    const host = node.bytes > 0 ? node.host / node.bytes : 0;
    g.save();
    g.beginPath();
    g.roundRect(x, y, w, h, Math.min(4, w / 2));
    g.clip();
    g.fillStyle = theme["device-tint"];
    g.fillRect(x, y, w, h);
    g.fillStyle = theme["host-tint"];
    g.fillRect(x + w * (1 - host), y, w * host, h);
    g.fillStyle = theme.device;
    g.fillRect(x, y + h - 3, w * (1 - host), 3);
    g.fillStyle = theme.host;
    g.fillRect(x + w * (1 - host), y + h - 3, w * host, 3);
    if (w > 24) {
      g.globalAlpha = 1;
      g.fillStyle = theme.text;
      g.textBaseline = "middle";
      g.textAlign = "left";
      const size = `${bytes(node.bytes)}`;
      const room = w - 14;
      let text = node.name;
      const sizeWidth = g.measureText(size).width;
      const withSize = g.measureText(text).width + sizeWidth + 16 <= room;
      if (!withSize) text = fitted(g, text, room);
      g.fillText(text, x + 7, y + h / 2 - 0.5);
      if (withSize) {
        g.textAlign = "right";
        g.fillText(size, x + w - 7, y + h / 2 - 0.5);
      }
    }
    g.restore();
    g.globalAlpha = 1;
  }
  paintOverlay(g) {
    for (const node of [this.hovered, document.activeElement === this.box ? this.chosen : null]) {
      const place = node && this.places?.get(node);
      if (!place) continue;
      g.strokeStyle = theme.cursor;
      g.lineWidth = 1.5;
      g.beginPath();
      g.roundRect(place.x + 0.75, place.y + 0.75, Math.max(1, place.width - 2.5), this.rowHeight - 3.5, 4);
      g.stroke();
    }
  }
}

// What of a text fits, with an ellipsis when that is not all.
function fitted(g, text, room) {
  if (g.measureText(text).width <= room) return text;
  let low = 0, high = text.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (g.measureText(`${text.slice(0, middle)}\u2026`).width <= room) low = middle;
    else high = middle - 1;
  }
  return low < 2 ? "" : `${text.slice(0, low)}\u2026`;
}
