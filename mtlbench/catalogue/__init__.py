"""What there is: methods, tasks, their variants and protocols, their data sets."""
