"""Lightning callbacks: what is watched, saved and drawn while a model trains."""
