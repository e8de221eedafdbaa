"""What the agent costs: every figure printed, none asserted. See README.md."""
