// The form of a data set: uploads an archive of images and inserts the lines that name it into the job.

import { upload } from "./api.js";
import { sent } from "./forms.js";

const form = document.getElementById("upload");
const job = document.getElementById("job");
const place = document.getElementById("uploaded");

sent(form, {
  work: (fields, onProgress) => upload("/data", fields, onProgress),
  done({ name, path, images, classes }) {
    form.reset();
    const shown = classes.length > 12 ? [...classes.slice(0, 12), "…"] : classes;
    const words = `${name}: ${images.toLocaleString("en")} images of ${classes.length} classes (${shown.join(", ")}). In the job:`;
    const lines = `data:\n  name: image-folder\n  path: ${path}\n  image_size: 32            # pixels; set the size of your images\n`;
    const take = Object.assign(document.createElement("button"), { type: "button", textContent: "Insert it into the job" });
    take.addEventListener("click", () => {
      job.value = withData(job.value, lines);
      job.dispatchEvent(new Event("input", { bubbles: true }));
      job.focus();
    });
    place.replaceChildren(
      Object.assign(document.createElement("p"), { textContent: words }),
      Object.assign(document.createElement("pre"), { textContent: lines, tabIndex: 0 }), take,
    );
  },
});

/** A job's text with its `data` section replaced; the section ends before the next unindented key or comment. */
function withData(text, lines) {
  const [begin] = /^data\s*:/m.exec(text) ? [/^data\s*:/m.exec(text).index] : [-1];
  if (begin < 0) return `${text.replace(/\n?$/, "\n")}${lines}`;
  const rest = text.slice(begin).replace(/^.*\n?/, "");
  const next = /^(?=\S)/m.exec(rest);
  return `${text.slice(0, begin)}${lines}${next ? `\n${rest.slice(next.index)}` : ""}`;
}
