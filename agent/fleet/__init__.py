"""The fleet: many agents and their hub, over one broker.

The agents' stores are the log, the broker is a wire: whatever it loses is asked for again.
"""
