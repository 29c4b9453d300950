// The form of a hardware profile.

import { ROOT, call } from "./api.js";
import { sent } from "./forms.js";

const KEYS = /^profile: (name|threads|batch_size|provider|placement|description)\b:? ?/;

sent(document.getElementById("add-profile"), {
  work(fields) {
    const entered = Object.fromEntries([...fields].map(([key, value]) => [key, value.trim()]).filter(([, value]) => value !== ""));
    const profile = {
      ...entered, threads: Number(entered.threads), batch_size: Number(entered.batch_size),
      ...(entered.placement ? { placement: { [entered.placement]: 1 } } : {}),
    };
    return call("/profiles", { method: "POST", body: { profile: JSON.stringify(profile) } }); // JSON is YAML
  },
  done: ({ name }) => location.assign(`${ROOT}/hardware/${encodeURIComponent(name)}`),
  fieldOf: ({ field, message }) => KEYS.exec(message)?.[1] ?? field,
});
