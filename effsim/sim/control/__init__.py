"""What happens to a serving cluster as a whole: replicas that start, stop, fail and are kept, pools, and a budget of power."""
