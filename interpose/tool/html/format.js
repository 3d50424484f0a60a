// Numbers as flexlom report writes them.
const byteUnits = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

function bytes(value) {
  if (value < 1024) return `${Math.round(value)} B`;
  let unit = 0;
  for (; value >= 1023.95 && unit + 1 < byteUnits.length; unit++) value /= 1024;
  return `${value.toFixed(1).replace(/\.0$/, "")} ${byteUnits[unit]}`;
}

// A moment, as exact as a view of `span` nanoseconds can show it.
function moment(ns, span) {
  const seconds = ns / 1e9;
  if (span >= 3600e9) return `${Math.floor(seconds / 3600)} h ${two(seconds / 60 % 60)} min`;
  const digits = span > 1e9 ? 3 : span > 1e6 ? 6 : 9;
  if (seconds < 60 || span < 1e9) return `${seconds.toFixed(digits)} s`;
  return `${Math.floor(seconds / 60)} min ${(seconds % 60).toFixed(span > 120e9 ? 0 : 3)} s`;
}

function duration(ns) {
  if (ns < 1e3) return `${Math.round(ns)} ns`;
  if (ns < 1e6) return `${+(ns / 1e3).toPrecision(3)} us`;
  if (ns < 1e9) return `${+(ns / 1e6).toPrecision(3)} ms`;
  return `${+(ns / 1e9).toPrecision(3)} s`;
}

function two(value) {
  return String(Math.floor(value)).padStart(2, "0");
}

function share(part, whole) {
  return whole > 0 ? `${(100 * part / whole).toFixed(1)}%` : "";
}

function hex(value) {
  return `0x${value.toString(16)}`;
}

// Where an axis of bytes from 0 to `most` has its lines: a power of two apart.
function byteTicks(most, count) {
  let step = 1;
  while (step * count < most) step *= 2;
  const ticks = [];
  for (let at = 0; at <= most; at += step) ticks.push(at);
  return ticks;
}

// Moments of an axis with their labels.
function timeTicks(begin, end, count) {
  const span = end - begin;
  const steps = [1, 2, 5];
  let step = 0;
  for (let power = 1; step === 0; power *= 10) {
    for (const digit of steps) {
      if (step === 0 && digit * power * count >= span) step = digit * power;
    }
  }
  if (step > 20e9) {
    step = [30e9, 60e9, 120e9, 300e9, 600e9, 1200e9, 1800e9, 3600e9, 7200e9, 14400e9, 43200e9, 86400e9]
      .find((candidate) => candidate * count >= span) ?? step;
  }
  const digits = Math.max(0, 9 - Math.floor(Math.log10(step) + 1e-9));
  const ticks = [];
  for (let at = Math.ceil(begin / step) * step; at <= end && ticks.length < 100; at += step) {
    const s = at / 1e9;
    const label = step < 20e9 ? `${s.toFixed(digits)} s`
      : s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)} min`
        : `${Math.floor(s / 3600)}:${two(s / 60 % 60)} h`;
    ticks.push({at, label});
  }
  return ticks;
}
