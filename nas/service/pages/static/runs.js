// The list of all runs, kept up to date.

import { localTimes } from "./api.js";
import { actions } from "./actions.js";
import { refresh, repeat } from "./live.js";

localTimes();
actions(refresh);
repeat(refresh, 3);
