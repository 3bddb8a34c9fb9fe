// Stacked chart of the bytes of directories over time. The legend shows the values under the pointer, else the latest.
"use strict";

(() => {
  const AGAIN_MS = 5000;   // shortest interval between fetches
  const place = document.getElementById("storage-plot");
  const status = document.getElementById("storage-plot-status");
  const plots = window.holdfastPlots = window.holdfastPlots || {};
  const state = { plot: null, found: null, layers: [], due: 0, timer: null };

  function size(bytes) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit = 0;
    for (; Math.abs(bytes) >= (unit ? 1023.95 : 1024) && unit < units.length - 1; unit++) bytes /= 1024;
    return `${bytes.toFixed(unit ? 1 : 0)} ${units[unit]}`;
  }

  const round = (bytes) => size(bytes).replace(".0 ", " ");
  const DOUBLED = Array.from({ length: 60 }, (_, i) => 2 ** i);   // tick distances, so that ticks are whole units

  function colour(name) {   // the computed colour of a class, as a canvas does not know CSS variables
    const probe = document.createElement("i");
    probe.className = name;
    probe.hidden = true;
    place.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  // Layers of the stack: each directory's own bytes on top of the layers below. The largest is at the bottom.
  function layers(found) {
    const all = found.directories.map(({ name, size_bytes }, i) => ({ name, own: size_bytes, colour: `series-${i + 1}` }));
    if (found.others.some(Boolean)) all.push({ name: "all other directories", own: found.others, colour: "series-0" });
    let below = found.at.map(() => 0);
    for (const layer of all) below = layer.top = layer.own.map((bytes, i) => bytes + below[i]);
    return all;
  }

  function options(stacked) {
    const [ground, line, faint] = ["ground", "line", "faint"].map((name) => colour(`colour-${name}`));
    const axis = { stroke: faint, font: "12px system-ui, sans-serif", grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 5 } };
    const stepped = uPlot.paths.stepped({ align: -1 });
    const day = "\n{D} {MMM} {YYYY}";
    return {
      ...extent(),
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
      padding: [12, 8, 0, 0],
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      legend: { markers: { width: 0, fill: (_, i) => (stacked[i - 1] ? colour(stacked[i - 1].colour) : "transparent") } },
      scales: { y: { range: (_, least, most) => [0, most > 0 ? most * 1.06 : 1024] } },
      axes: [
        { ...axis, space: 70, values: [
          [86400 * 365, "{YYYY}", null, null, null, null, null, null, 1],
          [86400 * 28, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
          [86400, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
          [60, "{HH}:{mm}", day, null, day, null, null, null, 1],
          [1, "{HH}:{mm}:{ss}", day, null, day, null, null, null, 1],
        ] },
        { ...axis, size: 68, incrs: DOUBLED, values: (_, splits) => splits.map(round) },
      ],
      series: [
        { label: "UTC", value: "{YYYY}-{MM}-{DD} {HH}:{mm}:{ss}" },
        ...stacked.map((layer) => ({
          label: layer.name, fill: colour(layer.colour), stroke: ground, width: 1, paths: stepped, points: { show: false },
          value: (_u, _top, series, i) => (i == null ? "" : size(state.layers[series - 1].own[i])),
        })),
        { label: "total", paths: () => null, points: { show: false }, value: (_, top) => (top == null ? "" : size(top)) },
      ],
      bands: stacked.slice(1).map((_, i) => ({ series: [i + 2, i + 1] })),
      hooks: { setCursor: [rest], ready: [rest] },
    };
  }

  function rest(plot) {   // without a pointer, the legend shows the latest values
    if (plot.cursor.left < 0 || plot.cursor.idx == null) plot.setLegend({ idx: plot.data[0].length - 1 }, false);
  }

  const extent = () => ({ width: Math.max(200, place.clientWidth), height: 300 });

  const names = (all) => JSON.stringify(all.map((layer) => layer.name));

  function draw(anew = false) {
    const { found, plot, layers: before } = state, stacked = state.layers = layers(found);
    const tops = stacked.map((layer) => layer.top), data = [found.at, ...tops, tops.at(-1)];
    place.hidden = !stacked.length;
    status.textContent = stacked.length ? "" : "There were no checkpoints in this period.";
    if (plot && !anew && names(before) === names(stacked)) {
      plot.setData(data);
      rest(plot);
      return;
    }
    if (plot) plot.destroy();
    state.plot = plots[place.id] = stacked.length ? new uPlot(options(stacked), data, place) : null;
  }

  async function ask() {
    try {
      const answer = await fetch(place.dataset.series, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(answer.statusText);
      state.found = await answer.json();
      draw();
    } catch {   // the old chart stays until a later fetch succeeds
      status.textContent = "The chart could not be loaded.";
    }
  }

  function askAgain() {
    clearTimeout(state.timer);
    state.timer = setTimeout(() => { state.due = Date.now() + AGAIN_MS; ask(); }, Math.max(0, state.due - Date.now()));
  }

  document.addEventListener("holdfast:refreshed", askAgain);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (state.found) draw(true); });
  new ResizeObserver(() => { if (state.plot) state.plot.setSize(extent()); }).observe(place);
  askAgain();
})();
