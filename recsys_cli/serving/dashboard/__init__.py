"""The pages under /dashboard: what a person sees of a server, drawn by the server itself."""
