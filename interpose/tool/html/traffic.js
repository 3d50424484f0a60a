// Bytes that changed places, as a rate: to the device above the line, to the host below it.
class TrafficPlot extends TimePlot {
  setData(traffic) {
    this.traffic = traffic;
    let any = false;
    for (let i = 0; i < traffic.count; i++) {
      any ||= traffic.promoted[i] + traffic.copied[i] + traffic.clean[i] > 0;
    }
    this.empty(any ? "" : "Nothing moved.");
    this.invalidate();
  }
  // Sums for each of n bars; a sample counts for the bars that its interval lies in.
  bars(n) {
    const t = this.traffic;
    const names = ["promoted", "copied", "clean", "spilled", "givenUp"];
    const out = {};
    for (const name of names) out[name] = new Float64Array(n);
    const bar = view.span / n;
    let i = Math.max(0, upperBound(t.at, view.begin - t.interval, t.count) - 1);
    for (; i < t.count && t.at[i] < view.end; i++) {
      const begin = t.at[i], end = begin + t.interval;
      const from = Math.max(0, Math.floor((begin - view.begin) / bar));
      const to = Math.min(n - 1, Math.floor((end - 1 - view.begin) / bar));
      for (let x = from; x <= to; x++) {
        const left = view.begin + x * bar;
        const part = t.interval <= bar / 64 ? (begin >= left && begin < left + bar || from === to ? 1 : 0)
          : Math.max(0, Math.min(end, left + bar) - Math.max(begin, left)) / t.interval;
        for (const name of names) out[name][x] += t[name][i] * part;
      }
    }
    return out;
  }
  paint(g) {
    if (!this.traffic) return;
    const n = this.shownCount = Math.max(1, Math.floor(this.inner / 4));
    const b = this.shown = this.bars(n);
    const seconds = view.span / n / 1e9;
    let up = 1, down = 1;
    for (let x = 0; x < n; x++) {
      up = Math.max(up, b.promoted[x]);
      down = Math.max(down, b.copied[x] + b.clean[x]);
    }
    const most = Math.max(up, down, (up + down) * 0.55);
    const share = Math.min(0.8, Math.max(0.2, Math.max(up, most * 0.2) / (Math.max(up, most * 0.2) + Math.max(down, most * 0.2))));
    const zero = Math.round(this.top + (this.floor - this.top) * share);
    const scale = Math.min((zero - this.top) / up, (this.floor - zero) / down) * 0.95;
    const ticks = byteTicks(Math.max(up, down) / seconds, 3);
    const y = (rate) => zero - rate * seconds * scale;
    const lines = [];
    for (const tick of ticks) {
      if (y(tick) >= this.top) lines.push([tick, tick === 0 ? "0" : `${bytes(tick)}/s`]);
      if (tick > 0 && y(-tick) <= this.floor) lines.push([-tick, `${bytes(tick)}/s`]);
    }
    this.paintLines(g, lines, y);
    const width = this.inner / n;
    for (let x = 0; x < n; x++) {
      const at = this.left + x * width;
      const bar = (from, amount, colour) => {
        if (amount <= 0) return;
        g.fillStyle = theme[colour];
        const height = Math.max(1, amount * scale);
        g.fillRect(at, from < 0 ? zero - height : zero + 1 + from, width - 0.75, height);
      };
      bar(-1, b.promoted[x], "device");
      bar(0, b.copied[x], "host");
      bar(b.copied[x] * scale, b.clean[x], "clean");
    }
    g.fillStyle = theme.soft;
    g.fillRect(this.left, zero, this.inner, 1);
    this.paintTimeAxis(g);
  }
  describe(at) {
    if (!this.shown || at === null) return null;
    const n = this.shownCount, bar = view.span / n, b = this.shown;
    const x = Math.min(Math.floor((at - view.begin) / bar), n - 1);
    const row = (kind, name, amount) => ({kind, name,
      value: amount > 0 ? `${bytes(amount)}  (${bytes(amount / bar * 1e9)}/s)` : "0 B"});
    const rows = [
      row("device", "to the device", b.promoted[x]),
      row("host", "to the host", b.copied[x]),
      row("clean", "to the host without a copy", b.clean[x]),
    ];
    if (b.spilled[x] > 0) rows.push(row("spill", "spilled when it was allocated", b.spilled[x]));
    if (b.givenUp[x] > 0) rows.push({kind: "", name: "moves given up", value: String(Math.round(b.givenUp[x]))});
    const begin = view.begin + x * bar;
    return {title: `${moment(begin, view.span)}, ${duration(bar)} long`, rows};
  }
}
