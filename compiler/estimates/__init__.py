"""What a run will take of memory and disk, how many steps it has, and how it is laid on the devices."""
