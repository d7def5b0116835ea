"""The built-in methods, one file each; installed as `mtlbench.methods`."""
