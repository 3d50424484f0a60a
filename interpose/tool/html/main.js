// Puts the pictures together.
function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  readTheme();
  if (data.devices.length === 0) {
    throw new Error("The log tells of no memory: there is nothing to draw.");
  }
  document.getElementById("pictures").hidden = false;
  view.whole = Math.max(1, data.duration);
  view.end = view.whole;

  const levels = new LevelPlot("levels", 270, "Memory over time", {
    first: {kind: "device", name: "on the device"},
    second: {kind: "host", name: "on the host"},
    held: {kind: "held", name: "device memory held"},
    sum: "in use",
  });
  const map = new PageMapPlot("page-map", 300, "Where every page lay, address against time");
  const traffic = new TrafficPlot("traffic", 190, "Bytes moved between device and host over time");
  const icicle = new IciclePlot("icicle", "Who held the memory at the peak");
  const totals = new LevelPlot("totals", 190, "Held and in use over time", {
    first: {kind: "live", name: "in use"},
    second: {kind: "idle", name: "held, not in use"},
    sum: "held",
    part: "of it not in use",
  });

  totals.setData(readLevels(data.totals), 0, []);
  tellStranded(data.peak);

  const show = (device) => {
    const moves = readTraffic(device.traffic);
    levels.setData(readLevels(device.levels), device.budget, marksOf(data, device, moves));
    map.setData(readPageMap(device.map, view.whole));
    traffic.setData(moves);
    icicle.setData(device.icicle, `device ${device.ordinal}, at ${moment(device.peak_at, 2e9)}`);
  };
  chooseDevice(data, show);
  bindTheme([levels, map, traffic, icicle, totals]);
  document.getElementById("reset").addEventListener("click", () => view.reset());
  view.changed();
}

// The worst first: where there are several at one place, those are told.
function marksOf(data, device, moves) {
  const marks = [];
  for (const failure of data.failures) {
    if (failure.device !== device.ordinal) continue;
    const rows = [{kind: "", name: failure.call || "asked for", value: bytes(failure.asked)}];
    if (failure.note) rows.push({kind: "", name: failure.note, value: ""});
    if (failure.holders) rows.push({kind: "", name: `held by ${failure.holders}`, value: ""});
    marks.push({at: failure.at, kind: "failure", title: "out of memory", rows});
  }
  for (const warning of data.warnings) {
    marks.push({at: warning.at, kind: "warning", title: "warning", rows: [{kind: "", name: warning.text, value: ""}]});
  }
  for (let i = 0; i < moves.count; i++) {
    if (moves.spills[i] === 0) continue;
    marks.push({at: moves.at[i], kind: "spill", title: "spilled when it was allocated",
      rows: [{kind: "", name: moves.spills[i] === 1 ? "1 allocation" : `${moves.spills[i]} allocations`,
        value: bytes(moves.spilled[i])}]});
  }
  return marks;
}

// What held memory costs is told at the moment when most was in use; not where the log knows less of
// what was held than of what was in use.
function tellStranded(peak) {
  const idle = peak.held - peak.in_use;
  if (peak.held === 0 || idle < 0) return;
  document.getElementById("stranded").textContent =
    `When most was in use, ${bytes(peak.in_use)} at ${moment(peak.at, 2e9)}, ${bytes(peak.held)} were held: ` +
    `${share(idle, peak.held)} of it not in use.`;
}

// The device with the highest peak first.
function chooseDevice(data, show) {
  const choice = document.getElementById("device");
  const devices = [...data.devices].sort((a, b) => a.ordinal - b.ordinal);
  for (const device of devices) {
    const option = element("option", `${device.ordinal}${device.name ? `: ${device.name}` : ""}`);
    option.value = device.ordinal;
    choice.append(option);
  }
  const biggest = devices.reduce((a, b) => (b.peak > a.peak ? b : a));
  choice.value = biggest.ordinal;
  document.getElementById("device-choice").hidden = devices.length < 2;
  choice.addEventListener("change", () => show(devices.find((d) => String(d.ordinal) === choice.value)));
  show(biggest);
}

function bindTheme(plots) {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = (dark) => {
    root.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "light" : "dark";
    readTheme();
    for (const plot of plots) plot.invalidate();
  };
  let chosen = false;
  apply(system.matches);
  system.addEventListener("change", (event) => chosen || apply(event.matches));
  button.addEventListener("click", () => {
    chosen = true;
    apply(root.dataset.theme !== "dark");
  });
}

try {
  start();
} catch (problem) {
  const note = document.getElementById("problem");
  note.textContent = problem.message;
  note.hidden = false;
}
