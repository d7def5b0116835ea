"""The built-in tasks, one folder each; installed as `mtlbench.tasks`."""
