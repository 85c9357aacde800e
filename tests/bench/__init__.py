"""Load generators, yardsticks, and what runs them against each other: see README.md."""
