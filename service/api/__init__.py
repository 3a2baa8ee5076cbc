"""HTTP only: routes, schemas and the mapping of errors to status codes."""
