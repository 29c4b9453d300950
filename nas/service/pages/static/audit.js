// The page of the audit log: its times are shown in the reader's time zone.

import { localTimes } from "./api.js";

localTimes();
