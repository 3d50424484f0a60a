// Address against time: one row for each block of addresses, coloured by where its pages lay.
class PageMapPlot extends TimePlot {
  constructor(id, height, label) {
    super(id, height, label);
    this.climbs = true;
    this.tiles = document.createElement("canvas");
  }
  setData(map) {
    this.map = map;
    this.empty(map.rows === 0 || map.columns === 0 ? "The log tells of no pages." : "");
    if (map.rows > 0) this.setHeight(Math.round(Math.min(Math.max(map.rows * 7, 150), 360)) + this.top + this.bottom);
    this.invalidate();
  }
  palette() {
    const paper = rgb(theme.paper), device = rgb(theme.device), host = rgb(theme.host), idle = rgb(theme.idle);
    const colours = new Uint8ClampedArray(512 * 3);
    for (let code = 0; code < 512; code++) {
      const d = code & 7, h = code >> 3 & 7, u = code >> 6 & 7;
      const there = Math.min(1, (d + h) / 7);
      // A block that is hardly used still is: what is in use at all has at least half of its colour.
      const used = d + h === 0 || u === 0 ? 0 : 0.5 + 0.5 * Math.min(1, u / Math.min(7, d + h));
      for (let k = 0; k < 3; k++) {
        const place = d + h === 0 ? 0 : (device[k] * d + host[k] * h) / (d + h);
        const colour = place * used + idle[k] * (1 - used);
        colours[code * 3 + k] = paper[k] + (colour - paper[k]) * (there === 0 ? 0 : 0.35 + 0.65 * there);
      }
    }
    return colours;
  }
  paint(g) {
    const map = this.map;
    if (!map || map.rows === 0) return;
    const n = Math.max(1, Math.round(this.inner * (devicePixelRatio || 1)));
    this.tiles.width = n;
    this.tiles.height = map.rows;
    const tiles = this.tiles.getContext("2d");
    const image = tiles.createImageData(n, map.rows);
    const colours = this.palette();
    const moved = rgb(theme.moved);
    // The columns of the grid that lie in each column of the picture.
    const first = new Int32Array(n), last = new Int32Array(n), fresh = new Uint8Array(n);
    const tick = Math.max(1, Math.round(2 * (devicePixelRatio || 1)));
    for (let x = 0; x < n; x++) {
      first[x] = upperBound(map.starts, view.begin + x / n * view.span, map.columns) - 1;
      last[x] = Math.max(first[x], upperBound(map.starts, view.begin + (x + 1) / n * view.span - 1e-6, map.columns) - 1);
    }
    for (let x = 0; x < n; x++) fresh[x] = x === 0 || last[x] !== last[x - 1] ? 1 : 0;
    for (let row = 0; row < map.rows; row++) {
      const cells = map.cells.subarray(row * map.columns, (row + 1) * map.columns);
      let left = 0;
      for (let x = 0; x < n; x++) {
        if (last[x] < 0) continue;
        const at = (row * n + x) * 4;
        // A move is a moment: it marks the beginning of its column, however long that is.
        if (fresh[x]) {
          const from = x > 0 && first[x] === last[x - 1] ? first[x] + 1 : Math.max(0, first[x]);
          for (let c = from; c <= last[x]; c++) if (cells[c] >> 9) left = tick;
        }
        let r, gg, b;
        if (left > 0) {
          left--;
          [r, gg, b] = moved;
        } else {
          const code = (cells[last[x]] & 511) * 3;
          r = colours[code];
          gg = colours[code + 1];
          b = colours[code + 2];
        }
        image.data[at] = r;
        image.data[at + 1] = gg;
        image.data[at + 2] = b;
        image.data[at + 3] = 255;
      }
    }
    tiles.putImageData(image, 0, 0);
    const height = this.floor - this.top;
    g.imageSmoothingEnabled = map.rows > height * (devicePixelRatio || 1);
    g.drawImage(this.tiles, this.left, this.top, this.inner, height);
    this.paintAddresses(g, height);
    this.paintTimeAxis(g);
  }
  paintAddresses(g, height) {
    const map = this.map;
    const step = height / map.rows;
    g.textAlign = "right";
    g.textBaseline = "top";
    g.font = '10.5px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace';
    // The beginning of each stretch of addresses first, then others where there is room.
    const gaps = [];
    for (let row = 1; row < map.rows; row++) {
      if (map.addresses[row] !== map.addresses[row - 1] + map.blockBytes) gaps.push(row);
    }
    const labelled = [];
    const label = (row, distance) => {
      const y = this.top + row * step;
      if (y + 11 > this.floor || labelled.some((other) => Math.abs(other - y) < distance)) return;
      labelled.push(y);
      g.fillStyle = theme.soft;
      g.fillText(hex(map.addresses[row]), this.left - 8, y);
    };
    for (const row of [0, ...gaps]) label(row, 13);
    for (let row = 1; row < map.rows; row++) label(row, 42);
    if (step >= 2) {
      g.fillStyle = theme.paper;
      for (const row of gaps) g.fillRect(this.left, this.top + row * step - 1, this.inner, 2);
    }
    g.strokeStyle = theme.edge;
    g.strokeRect(this.left + 0.5, this.top + 0.5, this.inner - 1, height - 1);
    g.font = '11.5px system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif';
  }
  paintOverlay(g) {
    super.paintOverlay(g);
    if (view.cursor === null || this.pointerY === undefined || !this.map || this.map.rows === 0) return;
    if (!this.box.matches(":hover") && document.activeElement !== this.box) return;
    const y = Math.round(Math.min(Math.max(this.pointerY, this.top), this.floor)) + 0.5;
    g.strokeStyle = theme.cursor;
    g.globalAlpha = 0.35;
    g.beginPath();
    g.moveTo(this.left, y);
    g.lineTo(this.width - this.right, y);
    g.stroke();
    g.globalAlpha = 1;
  }
  describe(at) {
    const map = this.map;
    if (!map || map.rows === 0 || at === null) return null;
    const part = ((this.pointerY ?? this.top) - this.top) / (this.floor - this.top);
    const row = Math.min(Math.max(Math.floor(part * map.rows), 0), map.rows - 1);
    const column = upperBound(map.starts, at, map.columns) - 1;
    const address = map.addresses[row];
    const title = `${hex(address)} to ${hex(address + map.blockBytes)}, ${bytes(map.blockBytes)}`;
    if (column < 0) return {title, rows: [{kind: "", name: moment(at, view.span), value: "no page"}]};
    const code = map.cells[row * map.columns + column];
    const d = code & 7, h = code >> 3 & 7, u = code >> 6 & 7;
    const place = d + h === 0 ? "no page" : h === 0 ? "on the device" : d === 0 ? "on the host"
      : `${share(d, d + h)} on the device`;
    const kind = d + h === 0 ? "" : u === 0 ? "idle" : h > d ? "host" : "device";
    const rows = [{kind, name: moment(at, view.span), value: place}];
    if (d + h > 0) {
      rows.push({kind: "", name: "in use", value: u === 0 ? "no" : u >= d + h ? "yes" : `about ${share(u, d + h)}`});
    }
    // For as long as the row says the same and nothing moved in between.
    const cells = map.cells.subarray(row * map.columns, (row + 1) * map.columns);
    let from = column, to = column + 1;
    while (from > 0 && cells[from] >> 9 === 0 && (cells[from - 1] & 511) === (code & 511)) from--;
    while (to < map.columns && cells[to] === (code & 511)) to++;
    const began = map.starts[from], begin = map.starts[column];
    rows.push({kind: "", name: "so from",
      value: `${moment(began, view.span)} for ${duration(map.starts[to] - began)}`});
    if (code >> 9 & 1) rows.push({kind: "moved", name: "moved to the device", value: moment(begin, view.span)});
    if (code >> 10 & 1) rows.push({kind: "moved", name: "moved to the host", value: moment(begin, view.span)});
    return {title, rows};
  }
}
