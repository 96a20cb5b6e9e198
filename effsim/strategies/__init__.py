"""What can be changed to save energy, one file each."""
