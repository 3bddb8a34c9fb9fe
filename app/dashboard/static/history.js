// Chart of values over the commits of a directory. The table below lists the same checkpoints.
"use strict";

{
  const COLOURS = ["--accent", "--warn", "--good", "--bad", "--faint"];
  const WHOLE = [...Array(10).keys()].flatMap((power) => [1, 2, 5].map((step) => step * 10 ** power));   // no half epochs
  const place = document.getElementById("history");
  const status = document.getElementById("history-status");
  const controls = document.getElementById("history-controls");
  const MOST_VALUES = 8;   // in one request
  let plot = null;
  let fetches = 0;
  let isAxisChosen = false;
  let drawn = "";   // the state of the chart, so that an unchanged one is not drawn again

  function colour(name) {   // the computed colour of a variable, as a canvas does not know CSS variables
    place.style.setProperty("outline-color", `var(${name})`);
    return getComputedStyle(place).outlineColor;
  }

  function chosen() {
    const data = new FormData(controls);
    return { x: data.get("x"), of: data.getAll("of"), log: data.has("log"), other: (data.get("with") || "").trim() };
  }

  function addressOf(directory, of) {
    const path = directory.split("/").map(encodeURIComponent).join("/");
    return `${place.dataset.series}${path}?${new URLSearchParams(of.map((value) => ["of", value]))}`;
  }

  async function fetched(directory, of) {
    const answer = await fetch(addressOf(directory, of));
    if (!answer.ok) throw new Error(answer.status === 404 ? `There is no directory ${directory}.` : `The server answered with status ${answer.status}.`);
    return answer.json();
  }

  // The axis to show: the selected one, unless the user has not selected any and no point has a value on it.
  function axisFor(found, selected) {
    const isOn = (axis) => found.some((one) => one.series.some((series) => series[axis].some((x) => x !== null)));
    return isAxisChosen || isOn(selected) ? selected : ["step", "sequence"].find(isOn) || selected;
  }

  // One line for each value of each directory, with the marks of each point. Some of removed checkpoints have no id.
  function linesOf(found, wanted, isOther) {
    return found.series.map((series) => {
      const points = [];
      for (let i = 0; i < series.id.length; i++) {
        const x = series[wanted.x][i];
        const y = series.value[i];
        if (x === null || (wanted.log && y <= 0)) continue;
        const marks = [series.state[i]];
        if (series.of === "metric" && series.id[i] === found.best) marks.push("best");
        if (series.id[i] === found.latest) marks.push("latest");
        points.push({ x, y, id: series.id[i], name: series.name[i], marks });
      }
      points.sort((a, b) => a.x - b.x);
      const label = isOther ? `${series.of} of ${found.directory}` : series.of;
      return { of: series.of, label, isOther, points, left: series.id.length - points.length };
    });
  }

  function tableOf(lines) {
    const xs = [...new Set(lines.flatMap((line) => line.points.map((point) => point.x)))].sort((a, b) => a - b);
    const row = new Map(xs.map((x, i) => [x, i]));
    for (const line of lines) {
      line.at = new Array(xs.length).fill(null);   // of several points at one x, the last saved is drawn
      for (const point of line.points) line.at[row.get(point.x)] = point;
    }
    return [xs, ...lines.map((line) => line.at.map((point) => (point ? point.y : null)))];
  }

  function shape(context, mark, x, y, stroke) {
    const ratio = devicePixelRatio;
    const size = { live: 3, removed: 2, pinned: 5, latest: 5, best: 8 }[mark] * ratio;
    context.beginPath();
    context.lineWidth = 1.5 * ratio;
    context.strokeStyle = context.fillStyle = stroke;
    if (mark === "pinned") { context.moveTo(x, y - size); context.lineTo(x + size, y); context.lineTo(x, y + size); context.lineTo(x - size, y); context.closePath(); context.fill(); }
    else if (mark === "latest") { context.rect(x - size, y - size, 2 * size, 2 * size); context.stroke(); }
    else { context.arc(x, y, size, 0, 2 * Math.PI); if (mark === "live") context.fill(); else context.stroke(); }
  }

  function marksOf(lines) {
    return (u, seriesIndex) => {
      const line = lines[seriesIndex - 1];
      const scale = u.series[seriesIndex].scale;
      const many = line.points.length > 300;
      u.ctx.save();   // marks are not dashed, even on a dashed line
      u.ctx.setLineDash([]);
      line.at.forEach((point) => {
        if (!point) return;
        for (const mark of point.marks) {
          if (many && mark === "removed") continue;
          const stroke = colour({ best: "--good", pinned: "--warn", removed: "--faint" }[mark] || line.colour);
          shape(u.ctx, mark, u.valToPos(point.x, "x", true), u.valToPos(point.y, scale, true), stroke);
        }
      });
      u.ctx.restore();
      return false;   // the library draws no points of its own
    };
  }

  const scaleOf = (of) => `of ${of}`;   // avoids the library's own scale "x"

  function draw(lines, wanted) {
    const values = [...new Set(lines.map((line) => line.of))];
    lines.forEach((line) => { line.colour = COLOURS[(values.indexOf(line.of) + (line.isOther ? 3 : 0)) % COLOURS.length]; });
    const axis = (more) => ({ stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") }, ...more });
    const options = {
      width: place.clientWidth,
      height: Math.max(220, Math.min(380, Math.round(place.clientWidth * 0.42))),
      scales: { x: { time: wanted.x === "time" }, ...Object.fromEntries(values.map((of) => [scaleOf(of), { distr: wanted.log ? 3 : 1 }])) },
      series: [
        { label: wanted.x },
        ...lines.map((line) => ({
          label: line.label, scale: scaleOf(line.of), spanGaps: true, width: 1.5, stroke: colour(line.colour),
          dash: line.isOther ? [6, 4] : undefined, points: { show: marksOf(lines) },
          value: (u, y) => (y === null ? "–" : Number(y.toPrecision(6))),
        })),
      ],
      axes: [axis(wanted.x === "time" ? {} : { incrs: WHOLE }), ...values.slice(0, 2).map((of, i) => axis({ scale: scaleOf(of), side: i ? 1 : 3, size: 64, label: of, grid: { show: !i, stroke: colour("--line"), width: 1 } }))],
      cursor: { points: { size: 7 } },
    };
    if (plot) plot.destroy();
    plot = new uPlot(options, tableOf(lines), place);
    plot.over.addEventListener("click", () => {
      const point = plot.cursor.idx === null ? null : lines.map((line) => line.at[plot.cursor.idx]).find(Boolean);
      if (point && point.id) location.href = place.dataset.checkpoints + point.id;
    });
    (window.holdfastPlots ||= {}).history = plot;
    plot.holdfastLines = lines;
  }

  // True if the library can draw a line: it multiplies the spread of values, and rounds to decimals.
  function isDrawable(line) {
    const values = line.points.map((point) => point.y);
    const spread = values.reduce((most, y) => Math.max(most, y), -Infinity) - values.reduce((least, y) => Math.min(least, y), Infinity);
    const largest = values.reduce((most, y) => Math.max(most, Math.abs(y)), 0);
    return largest === 0 || (largest < 1e300 && largest > 1e-15 && Number.isFinite(spread));
  }

  function describe(lines) {
    const left = lines.reduce((sum, line) => sum + line.left, 0);
    const counts = lines.map((line) => `${line.label}: ${line.points.length}`).join(", ");
    place.setAttribute("aria-label", `Chart of ${counts || "nothing"}`);
    status.textContent = lines.every((line) => !line.points.length) ? "No checkpoint has this value." :
      !lines.every(isDrawable) ? "Some of these values are too large or too small to be drawn." :
      left ? `${left} checkpoint${left === 1 ? " is" : "s are"} not shown, for lack of a value on this axis.` : "";
  }

  async function show() {
    const wanted = chosen();
    const fetchNumber = ++fetches;
    try {
      if (wanted.of.length > MOST_VALUES) throw new Error(`At most ${MOST_VALUES} values can be shown at once.`);
      const found = [await fetched(place.dataset.directory, wanted.of)];
      if (wanted.other) found.push(await fetched(wanted.other, wanted.of));
      if (fetchNumber !== fetches) return;   // the selection has changed in the meantime
      wanted.x = controls.elements.x.value = axisFor(found, wanted.x);
      const state = JSON.stringify([found, wanted, place.clientWidth, matchMedia("(prefers-color-scheme: dark)").matches]);
      if (state === drawn) return;
      drawn = state;
      const lines = found.flatMap((one, i) => linesOf(one, wanted, i > 0));
      draw(lines, wanted);
      describe(lines);
    } catch (error) {
      status.textContent = error.message;
      drawn = "";   // redraw after the next fetch, which clears this message
    }
  }

  async function offerDirectories() {
    const list = document.getElementById("other-directories");
    if (list.childElementCount) return;
    const answer = await fetch(list.dataset.directories);
    if (answer.ok) list.replaceChildren(...(await answer.json()).map((name) => new Option(name, name)));
  }

  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.elements.x.addEventListener("change", () => { isAxisChosen = true; });
  controls.addEventListener("change", show);
  controls.elements.with.addEventListener("focus", offerDirectories);
  document.addEventListener("holdfast:refreshed", show);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  let resizing = null;
  new ResizeObserver(() => { clearTimeout(resizing); resizing = setTimeout(show, 150); }).observe(place);
  show();
}
