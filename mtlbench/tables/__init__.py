"""From records to leaderboards."""
