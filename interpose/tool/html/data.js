// What the tool wrote (html_encode.h), as arrays.
class Numbers {
  constructor(text) {
    this.bytes = atob(text);
    this.at = 0;
  }
  // Products, not shifts: values go beyond 32 bits.
  next() {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.bytes.charCodeAt(this.at++);
      if (!(byte > 127)) return value + (byte || 0) * scale;
      value += (byte - 128) * scale;
      scale *= 128;
    }
  }
  step(before) {
    const value = this.next();
    return before + (value % 2 === 1 ? -(value + 1) / 2 : value / 2);
  }
}

// Samples of levels: at each moment the most of its interval, then the last.
function readLevels(data) {
  const numbers = new Numbers(data.values);
  const n = data.count;
  const out = {count: n, interval: data.interval};
  for (const name of ["at", "first", "second", "held", "lastFirst", "lastSecond", "lastHeld"]) {
    out[name] = new Float64Array(n);
  }
  let at = 0, first = 0, second = 0, held = 0;
  for (let i = 0; i < n; i++) {
    out.at[i] = at = numbers.step(at);
    out.first[i] = first = numbers.step(first);
    out.second[i] = second = numbers.step(second);
    out.held[i] = held = numbers.step(held);
    out.lastFirst[i] = numbers.step(first);
    out.lastSecond[i] = numbers.step(second);
    out.lastHeld[i] = numbers.step(held);
  }
  return out;
}

function readTraffic(data) {
  const numbers = new Numbers(data.values);
  const out = {count: data.count, interval: data.interval};
  const names = ["promoted", "copied", "clean", "spilled", "spills", "givenUp"];
  for (const name of ["at", ...names]) out[name] = new Float64Array(data.count);
  let at = 0;
  for (let i = 0; i < data.count; i++) {
    out.at[i] = at = numbers.step(at);
    for (const name of names) out[name][i] = numbers.next();
  }
  return out;
}

// The grid of pages: for each row its first address, for each column its beginning, and a cell of
// three times three bits (on the device, on the host, in use) and two (moved up, moved down).
function readPageMap(data, end) {
  const blockBytes = 2 ** data.shift;
  const blocks = new Numbers(data.blocks);
  const addresses = new Float64Array(data.rows);
  let block = 0;
  for (let i = 0; i < data.rows; i++) addresses[i] = (block += blocks.next()) * blockBytes;
  const numbers = new Numbers(data.starts);
  const starts = new Float64Array(data.columns + 1);
  let at = 0;
  for (let i = 0; i < data.columns; i++) starts[i] = at += numbers.next();
  starts[data.columns] = Math.max(end, at + 1);
  const cells = new Uint16Array(data.rows * data.columns);
  const runs = new Numbers(data.cells);
  for (let i = 0; i < cells.length;) {
    const code = runs.next();
    const count = runs.next();
    cells.fill(code, i, i + count);
    i += Math.max(1, count);
  }
  return {rows: data.rows, columns: data.columns, exact: data.exact, blockBytes, addresses, starts, cells};
}

// The number of sorted values that are at most `value`.
function upperBound(sorted, value, count = sorted.length) {
  let low = 0, high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}
