"""The service: jobs by HTTP, by web page and by command, run as Ray Jobs and kept through restarts."""
