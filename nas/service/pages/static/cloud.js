// Many points, as an image behind a chart: plotly draws thousands of them either slowly or by compiling scripts, which the
// pages' security policy forbids.

import { shade, symbolOf } from "./charts.js";

const SPRITE = 24; // pixels of a drawn symbol, before the screen's own scale

/** Draws series `{x, y, trace}` in shown units; `chart` maps these to pixels. */
export class Cloud {
  constructor(box) {
    this.canvas = Object.assign(document.createElement("canvas"), { className: "cloud" });
    this.canvas.setAttribute("aria-hidden", "true");
    box.prepend(this.canvas);
  }

  draw(series, chart) {
    const { canvas } = this;
    const scale = window.devicePixelRatio || 1;
    const { left, top, width, height } = chart.plotArea();
    Object.assign(canvas.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    for (const one of series) {
      const { size, opacity } = one.trace.marker;
      const sprite = spriteOf({ ...symbolOf(one.trace), size, colour: shade(one.trace.meta) }, scale);
      context.globalAlpha = opacity;
      const place = chart.placer();
      for (let i = 0; i < one.x.length; i += 1) {
        if (one.x[i] === null || one.y[i] === null) continue;
        const [x, y] = place(one.x[i], one.y[i]);
        context.drawImage(sprite, x - left - SPRITE / 2, y - top - SPRITE / 2, SPRITE, SPRITE);
      }
    }
  }
}

/** A symbol, drawn once. */
function spriteOf({ symbol, colour, size, hollow }, scale) {
  const sprite = document.createElement("canvas");
  sprite.width = sprite.height = SPRITE * scale;
  const context = sprite.getContext("2d");
  context.scale(scale, scale);
  context.translate(SPRITE / 2, SPRITE / 2);
  const r = size / 2;
  const path = new Path2D({
    circle: `M${r} 0A${r} ${r} 0 1 1 ${-r} 0A${r} ${r} 0 1 1 ${r} 0`, square: `M${-r} ${-r}h${size}v${size}h${-size}z`,
    diamond: `M0 ${-1.2 * r}L${1.2 * r} 0L0 ${1.2 * r}L${-1.2 * r} 0z`, x: `M${-r} ${-r}L${r} ${r}M${r} ${-r}L${-r} ${r}`,
    cross: `M${-r} 0H${r}M0 ${-r}V${r}`,
  }[symbol.replace("-thin", "")]);
  context.fillStyle = context.strokeStyle = colour;
  context.lineWidth = hollow ? 1.6 : symbol === "cross" ? 3 : 1.2;
  if (hollow || ["x", "x-thin", "cross"].includes(symbol)) context.stroke(path);
  else context.fill(path);
  return sprite;
}
