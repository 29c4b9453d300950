"""The measuring process: pinned to CPUs and alone on its host, it times ONNX models by the commands of its driver.

It needs only Python >= 3.9 on Linux, numpy and one runtime: an archive of this package, with the file of the runtime's class,
is sent to a board and run there. All decisions are the driver's, which also sets the environment variables of thread pools and
of the runtime. A command is a line of JSON; after one with "payloads": [length, ...] follow as many byte strings of these
lengths. Each is answered by a line of JSON:

    {"do": "start", "threads", "provider", "trivial": a smallest model for the runtime, in hexadecimal digits,
     "energy": whether to find energy counters} -> {"event": "ready", "environment"} | {"event": "unsupported", "platform"}
                                                | {"event": "refused", "message"} | {"event": "no-energy", "message"}
    {"do": "acquire", "lock", "seconds"}     -> [{"event": "waiting", "holder", "lock"}]
                                                {"event": "acquired"} | {"event": "lock-timeout", "holder", "lock"}
                                                | {"event": "lock-unusable", "lock", "reason"}
    {"do": "load", "id", "names": [[name, ...], ...]}, payloads: the model, its inputs as .npz, call by call
                                             -> {"event": "loaded", "warm_ms", "session_ms", "peak_mib", "providers",
                                                 "scattered": share of a large model that is not in huge pages}
                                              | {"event": "failed", "message"}
    {"do": "round", "order": [[id, n], ...]} -> {"event": "round", "entries": {id: {"wall_ms", ...} | {"message"}}}
    {"do": "energy", "order": [[id, n] or ["", milliseconds of waiting], ...]}
                                             -> {"event": "energy", "entries": {id: {"uj", "s", ...} | {"message"}
                                                | {"unclear"}}} | {"event": "no-energy", "message"}
    {"do": "release"}                        -> {"event": "released", "environment"}

The user may set NAS_MEASURING_CPUS (``2,3``, as isolated cores) and NAS_MEASURING_REALTIME=1, which needs the right to it.
NAS_POWERCAP names another folder than /sys/class/powercap with energy counters. A run makes one call with each of the inputs,
and its times and its energy are the sums over them. The process ends at the end of its input.
"""
