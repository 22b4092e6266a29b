"""The correlation of frames and events on one GPU, with cupy."""
