"""HTTP: the application, authentication, request limits, security headers, problem details."""
