// The form of a hardware profile.

import { call } from "./api.js";
import { sent } from "./forms.js";

const KEYS = /^profile: (name|threads|batch_size|provider|placement|description)\b:? ?/;

sent(document.getElementById("add-profile"), {
  work(fields) {
    const told = Object.fromEntries([...fields].map(([key, value]) => [key, value.trim()]).filter(([, value]) => value !== ""));
    const profile = {
      ...told, threads: Number(told.threads), batch_size: Number(told.batch_size),
      ...(told.placement ? { placement: { [told.placement]: 1 } } : {}),
    };
    return call("/profiles", { method: "POST", body: { profile: JSON.stringify(profile) } }); // JSON is YAML
  },
  done: ({ name }) => location.assign(`/hardware/${encodeURIComponent(name)}`),
  fieldOf: ({ field, message }) => KEYS.exec(message)?.[1] ?? field,
});
