"""What one rank runs: THE MAIN LOOP, its stages, the update, the recorder, the pace."""
