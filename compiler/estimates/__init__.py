"""What a run will take of memory, disk and time, and how it is laid on the devices."""
