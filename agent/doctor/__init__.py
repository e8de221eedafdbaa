"""Why does it not work? Facts from all around the agent, judged, each with what to do.

`gather` reads facts, each part within its own limit; `judges` are pure: facts in, findings out.
"""
