"""Pages for a static host: no kernel, no server of ours, no request to anybody else."""
