// The forms of a data set and of a model: upload a file, and offer it to the job.

import { upload } from "./api.js";
import { sent } from "./forms.js";
import { offer } from "./recipe.js";

const at = (id) => document.getElementById(id);
const job = at("job");
const yaml = (value) => (typeof value === "string" && !/^[\w./-]+$/.test(value) ? JSON.stringify(value) : String(value));

sent(at("upload"), {
  work(fields, onProgress) {
    const options = {};
    for (const input of at("upload").querySelectorAll("[data-option]")) {
      const value = input.type === "checkbox" ? input.checked : input.value.trim();
      if (value) options[input.dataset.option] = value;
    }
    fields.set("options", JSON.stringify(options));
    return upload("/data", fields, onProgress);
  },
  fieldOf: ({ field }) => (field === "options" ? "archive" : field),
  done(made) {
    at("upload").reset();
    const { name, path, kind, classes, examples, noun, checked, task, options } = made;
    const shown = classes.length > 12 ? [...classes.slice(0, 12), "…"] : classes;
    const of = classes.length ? ` of ${classes.length} classes (${shown.join(", ")})` : "";
    const words = `${name}: ${examples.toLocaleString("en")} ${noun}s${of}; ${checked}. In the job:`;
    const size = noun === "image" && kind !== "fashion-mnist" ? ["  image_size: 32            # pixels; set the size of your images"] : [];
    const keys = Object.entries({ name: kind, path, ...options }).map(([key, value]) => `  ${key}: ${yaml(value)}`);
    const lines = `${["data:", ...keys, ...size].join("\n")}\n`;
    offer("data", { name, kind, words: `${name}: ${examples.toLocaleString("en")} ${noun}s` });
    show("uploaded", words, lines + (task === "classification" ? "" : `task: ${task}\n`), () => {
      const text = withSection(job.value, "data", lines);
      return task === "classification" ? text : withSection(text, "task", `task: ${task}\n`);
    });
  },
});

sent(at("upload-model"), {
  work: (fields, onProgress) => upload("/models", fields, onProgress),
  done({ name, path, kind, family }) {
    at("upload-model").reset();
    offer("model", { name, kind, family, words: family ? `${name}: ${family}` : name });
    const keys = kind === "captured" ? `model: ${path}` : `family: ${family}, pretrained: ${path}`;
    const recipe = kind === "captured" ? "own-image-model" : "one with a pretrained network";
    show("uploaded-model", `${name} is stored. A recipe such as ${recipe} takes it above; in a job:`, `supernet: {${keys}}\n`);
  },
});

/** Shows words and lines of a job; with a button that puts them into the job where there is a change. */
function show(id, words, lines, changed) {
  const take = Object.assign(document.createElement("button"), { type: "button", textContent: "Insert it into the job" });
  take.addEventListener("click", () => {
    job.value = changed();
    job.dispatchEvent(new Event("input", { bubbles: true }));
    job.focus();
  });
  at(id).replaceChildren(
    Object.assign(document.createElement("p"), { textContent: words }),
    Object.assign(document.createElement("pre"), { textContent: lines, tabIndex: 0 }), ...(changed ? [take] : []),
  );
}

/** A job's text with one of its sections replaced; it ends before the next unindented key or comment. */
function withSection(text, key, lines) {
  const begin = new RegExp(`^${key}\\s*:`, "m").exec(text)?.index ?? -1;
  if (begin < 0) return `${text.replace(/\n?$/, "\n")}${lines}`;
  const rest = text.slice(begin).replace(/^.*\n?/, "");
  const next = /^(?=\S)/m.exec(rest);
  return `${text.slice(0, begin)}${lines}${next ? `\n${rest.slice(next.index)}` : ""}`;
}
