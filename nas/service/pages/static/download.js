// Downloads of charts as pictures (PNG, SVG) and as tables (CSV).

import * as charts from "./charts.js";

const [WIDTH, HEIGHT, DENSITY] = [960, 600, 2]; // CSS pixels of a picture, and PNG's pixels for each

/**
 * Adds buttons after an element that download a chart of plotly.
 * `figure()` returns its `{data, layout}` now; traces with `showlegend` are in the legend of the picture.
 */
export function downloadable(after, { name, title, figure }) {
  const picture = (format) => {
    const { data, layout } = figure();
    const drawn = {
      ...layout, paper_bgcolor: charts.colour("--paper"), title: { text: charts.escapeText(title), x: 0.02, xanchor: "left", font: { size: 17 } },
      showlegend: true, legend: { orientation: "h", y: -0.16, yanchor: "top" }, margin: { l: 76, r: 24, t: 56, b: 60 }, autosize: false,
    };
    return Plotly.toImage({ data, layout: drawn }, { format, width: WIDTH, height: Math.max(HEIGHT, layout.height), scale: format === "png" ? DENSITY : 1 });
  };
  buttons(after, name, { png: () => picture("png"), svg: () => picture("svg"), csv: () => table(figure()) });
}

/** Adds buttons after an element that download an SVG element, and rows as a table. */
export function downloadableSvg(after, { name, svg, rows }) {
  const drawn = () => `data:image/svg+xml;charset=utf-8,${encodeURIComponent(withStyle(svg()))}`;
  buttons(after, name, { png: () => raster(drawn()), svg: drawn, csv: () => address(rows()) });
}

/** Writes the buttons; each of `formats` returns the address of the file, or a promise of it. */
function buttons(after, name, formats) {
  const line = Object.assign(document.createElement("p"), { className: "downloads" });
  line.append("Download ", ...Object.entries(formats).map(([format, make]) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: format.toUpperCase() });
    button.setAttribute("aria-label", `Download ${name} as ${format.toUpperCase()}`);
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        const link = document.createElement("a");
        Object.assign(link, { href: await make(), download: `${name}.${format}` }).click();
      } finally {
        button.disabled = false;
      }
    });
    return button;
  }));
  after.after(line);
}

/** The points of a chart, with their errors where it has some; or its cells. */
function table({ data, layout }) {
  if (data[0]?.type === "heatmap") {
    const [rows, columns] = [layout.yaxis.ticktext, layout.xaxis.ticktext];
    return address([["row", "column", "share (%)"], ...data[0].z.flatMap((shares, i) => shares.map((share, j) => [rows[i], columns[j], share]))]);
  }
  const { type, tickvals, ticktext } = layout.yaxis; // of rows, the points have their names
  const rowOf = (y) => (type === "log" || !ticktext ? y : ticktext[tickvals.indexOf(y)] ?? y);
  const titles = [layout.xaxis.title.text || "time", layout.yaxis2 ? "value" : layout.yaxis.title.text]; // of two axes, the series have the units
  const hasErrors = data.some((trace) => trace.error_y);
  const rows = data.flatMap((trace) => Array.from(trace.x, (x, i) => [
    trace.name ?? "", x, rowOf(trace.y[i]), ...(hasErrors ? [trace.error_x?.array[i], trace.error_y?.array[i]] : []),
  ]));
  return address([["series", ...titles, ...(hasErrors ? titles.map((title) => `${title} error`) : [])], ...rows]);
}

/** Rows as the address of a CSV file. */
function address(rows) {
  const cell = (value) => (/[",\n]/.test(value ?? "") ? `"${String(value).replaceAll('"', '""')}"` : value ?? "");
  return `data:text/csv;charset=utf-8,${encodeURIComponent(`${rows.map((row) => row.map(cell).join(",")).join("\n")}\n`)}`;
}

/** The text of an SVG element with the style that the page's style sheet gives it. */
function withStyle(svg) {
  const copy = svg.cloneNode(true);
  const own = [svg, ...svg.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((element, i) => {
    const style = getComputedStyle(own[i]);
    for (const name of ["fill", "fill-opacity", "stroke", "stroke-dasharray", "stroke-width", "font-size", "font-weight", "font-family"]) {
      element.style.setProperty(name, style.getPropertyValue(name));
    }
  });
  copy.style.background = charts.colour("--paper");
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return new XMLSerializer().serializeToString(copy);
}

/** The address of a PNG of an SVG file. */
async function raster(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: DENSITY * image.width, height: DENSITY * image.height });
  const context = canvas.getContext("2d");
  context.scale(DENSITY, DENSITY);
  context.drawImage(image, 0, 0);
  return canvas.toDataURL("image/png");
}
