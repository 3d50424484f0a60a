// Two levels one on top of the other, a third as a line, and a budget.
class LevelPlot extends TimePlot {
  constructor(id, height, label, kinds) {
    super(id, height, label);
    this.kinds = kinds;  // {first, second, held?, sum} as {kind, name}
    this.marks = [];     // {at, kind, title, rows}
    this.top = 18;
  }
  setData(levels, budget, marks) {
    this.levels = levels;
    this.budget = budget;
    this.marks = marks;
    this.empty(levels.count === 0 ? "The log tells of none." : "");
    this.invalidate();
  }

  // For each of n columns the moment with most in it; what was before goes on into it.
  columns(n) {
    const s = this.levels;
    const out = {first: new Float64Array(n), second: new Float64Array(n), held: new Float64Array(n)};
    let i = upperBound(s.at, view.begin, s.count);
    let first = 0, second = 0, held = 0;
    if (i > 0) {
      first = s.lastFirst[i - 1];
      second = s.lastSecond[i - 1];
      held = s.lastHeld[i - 1];
      // Inside of an interval its most may be still to come.
      if (s.interval > 1 && s.at[i - 1] + s.interval > view.begin) i--;
    }
    for (let x = 0; x < n; x++) {
      const end = view.begin + (x + 1) / n * view.span;
      let mostFirst = first, mostSecond = second, mostHeld = held;
      for (; i < s.count && s.at[i] < end; i++) {
        if (s.first[i] + s.second[i] >= mostFirst + mostSecond) {
          mostFirst = s.first[i];
          mostSecond = s.second[i];
        }
        mostHeld = Math.max(mostHeld, s.held[i]);
        first = s.lastFirst[i];
        second = s.lastSecond[i];
        held = s.lastHeld[i];
      }
      out.first[x] = mostFirst;
      out.second[x] = mostSecond;
      out.held[x] = mostHeld;
    }
    return out;
  }

  paint(g) {
    if (!this.levels) return;
    const n = Math.max(1, Math.round(this.inner * (devicePixelRatio || 1)));
    const c = this.shown = this.columns(n);
    this.shownCount = n;
    let most = 1;
    for (let x = 0; x < n; x++) most = Math.max(most, c.first[x] + c.second[x], this.kinds.held ? c.held[x] : 0);
    this.budgetInSight = this.budget > 0 && this.budget <= most * 2.5;
    if (this.budgetInSight) most = Math.max(most, this.budget);
    most *= 1.06;
    const y = (value) => this.floor - value / most * (this.floor - this.top);
    this.paintLines(g, byteTicks(most, 5).map((value) => [value, bytes(value)]), y);

    const width = this.inner / n;
    const area = (from, to, colour) => {
      g.fillStyle = colour;
      g.beginPath();
      g.moveTo(this.left, y(from(0)));
      for (let x = 0; x < n; x++) {
        g.lineTo(this.left + x * width, y(to(x)));
        g.lineTo(this.left + (x + 1) * width, y(to(x)));
      }
      for (let x = n - 1; x >= 0; x--) {
        g.lineTo(this.left + (x + 1) * width, y(from(x)));
        g.lineTo(this.left + x * width, y(from(x)));
      }
      g.fill();
    };
    area(() => 0, (x) => c.first[x], theme[this.kinds.first.kind]);
    area((x) => c.first[x], (x) => c.first[x] + c.second[x], theme[this.kinds.second.kind]);
    if (this.kinds.held) {
      const step = () => {
        g.beginPath();
        for (let x = 0; x < n; x++) {
          g.lineTo(this.left + x * width, y(c.held[x]));
          g.lineTo(this.left + (x + 1) * width, y(c.held[x]));
        }
        g.stroke();
      };
      g.lineJoin = "round";
      g.strokeStyle = theme.paper;  // a halo, so that the line shows on every colour
      g.lineWidth = 3.5;
      step();
      g.strokeStyle = theme.held;
      g.lineWidth = 1.75;
      step();
    }
    g.lineWidth = 1;
    if (this.budget > 0) this.paintBudget(g, y);
    this.paintMarks(g);
    g.fillStyle = theme.edge;
    g.fillRect(this.left, this.floor, this.inner, 1);
    this.paintTimeAxis(g);
  }
  paintBudget(g, y) {
    const label = `budget ${bytes(this.budget)}${this.budgetInSight ? "" : ", above this picture"}`;
    const at = this.budgetInSight ? Math.round(y(this.budget)) + 0.5 : 9;
    if (this.budgetInSight) {
      for (const [colour, width] of [[theme.paper, 4], [theme.budget, 1.5]]) {
        g.strokeStyle = colour;
        g.lineWidth = width;
        g.setLineDash(width === 4 ? [] : [6, 4]);
        g.globalAlpha = width === 4 ? 0.7 : 1;
        g.beginPath();
        g.moveTo(this.left, at);
        g.lineTo(this.width - this.right, at);
        g.stroke();
      }
      g.globalAlpha = 1;
      g.setLineDash([]);
      g.lineWidth = 1;
    }
    // On a plate of its own: what is behind it may have any colour.
    g.textAlign = "right";
    g.textBaseline = "middle";
    const width = g.measureText(label).width;
    const x = this.width - this.right - 6;
    g.fillStyle = theme.paper;
    g.globalAlpha = 0.9;
    g.beginPath();
    g.roundRect(x - width - 6, at - 9, width + 12, 18, 4);
    g.fill();
    g.globalAlpha = 1;
    g.fillStyle = theme.text;
    g.fillText(label, x, at + 0.5);
  }
  paintMarks(g) {
    const places = new Map();
    for (const mark of this.marks) {
      if (mark.at < view.begin || mark.at > view.end) continue;
      const x = Math.round(this.x(mark.at));
      places.set(`${mark.kind} ${x}`, [mark, x]);
    }
    for (const [mark, x] of [...places.values()].reverse()) {  // the worst on top
      g.fillStyle = theme[{failure: "failure", warning: "warning", spill: "host"}[mark.kind]];
      if (mark.kind === "failure") g.fillRect(x - 0.5, this.top, 1.5, this.floor - this.top);
      const half = mark.kind === "spill" ? 3.5 : 6;
      g.beginPath();
      g.moveTo(x - half, this.top - 3 - half * 1.7);
      g.lineTo(x + half, this.top - 3 - half * 1.7);
      g.lineTo(x, this.top - 3);
      g.fill();
    }
  }

  describe(at) {
    if (!this.shown || at === null) return null;
    const x = Math.min(Math.floor((at - view.begin) / view.span * this.shownCount), this.shownCount - 1);
    const first = this.shown.first[x], second = this.shown.second[x], held = this.shown.held[x];
    const rows = [
      {...this.kinds.second, value: bytes(second)},
      {...this.kinds.first, value: bytes(first)},
      {kind: "", name: this.kinds.sum, value: bytes(first + second)},
    ];
    if (this.kinds.part) rows.push({kind: "", name: this.kinds.part, value: share(second, first + second)});
    if (this.kinds.held) rows.push({...this.kinds.held, value: bytes(held)});
    if (this.budget > 0) rows.push({kind: "budget", name: "device budget", value: bytes(this.budget)});
    const reach = 5 / this.inner * view.span;
    for (const mark of this.marks.filter((m) => Math.abs(m.at - at) <= reach).slice(0, 3)) {
      rows.push({kind: mark.kind, name: `${mark.title}, ${moment(mark.at, view.span)}`, value: ""}, ...mark.rows);
    }
    return {title: moment(at, view.span), rows};
  }
}
